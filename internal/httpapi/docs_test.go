package httpapi

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/labstack/echo/v4"

	"foundry/api"
)

func TestReferenceShowsTheWholeContract(t *testing.T) {
	t.Parallel()
	document, err := openapi3.NewLoader().LoadFromData(api.Spec())
	if err != nil {
		t.Fatal(err)
	}
	page := referencePage(t)
	for path, item := range document.Paths.Map() {
		for method, op := range item.Operations() {
			if !strings.Contains(page, `id="`+op.OperationID+`"`) {
				t.Errorf("the page lacks %s %s (%s)", method, path, op.OperationID)
			}
		}
	}
	for name := range document.Components.Schemas {
		if !strings.Contains(page, `id="schema-`+name+`"`) {
			t.Errorf("the page lacks the schema %s", name)
		}
	}
}

func TestReferenceAsksNobodyElse(t *testing.T) {
	t.Parallel()
	page := referencePage(t)
	for _, match := range regexp.MustCompile(`(?i)(?:href|src|action|srcset)\s*=\s*"([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if !strings.HasPrefix(match[1], "#") && (!strings.HasPrefix(match[1], "/") || strings.HasPrefix(match[1], "//")) {
			t.Errorf("the page names %q", match[1])
		}
	}
	for _, forbidden := range []string{"http://", "https://", "<script", "<link", "@import", "url("} {
		if strings.Contains(page, forbidden) {
			t.Errorf("the page holds %q", forbidden)
		}
	}
}

func TestReferenceHasNoDeadAnchors(t *testing.T) {
	t.Parallel()
	page := referencePage(t)
	for _, match := range regexp.MustCompile(`href="#([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if strings.Count(page, ` id="`+match[1]+`"`) != 1 {
			t.Errorf("the anchor %q is there %d times, want once", match[1], strings.Count(page, ` id="`+match[1]+`"`))
		}
	}
}

// referencePage is what GET /docs answers.
func referencePage(t *testing.T) string {
	t.Helper()
	contract, err := loadContract()
	if err != nil {
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/docs", nil)
	if err := contract.reference(echo.New().NewContext(request, answer)); err != nil {
		t.Fatal(err)
	}
	policy := answer.Header().Get(echo.HeaderContentSecurityPolicy)
	if answer.Code != http.StatusOK || !strings.HasPrefix(policy, "default-src 'none';") {
		t.Fatalf("GET /docs: status %d, policy %q", answer.Code, policy)
	}
	return answer.Body.String()
}
