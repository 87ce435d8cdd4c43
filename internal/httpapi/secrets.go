package httpapi

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"foundry/internal/auth"
	"foundry/internal/errs"
	"foundry/internal/httpapi/openapi"
	"foundry/internal/redact"
	"foundry/internal/secret"
)

// signalTimeout is for telling what runs of a value that is stored already.
const signalTimeout = 10 * time.Second

func (h *handlers) ListSecrets(ctx context.Context, r openapi.ListSecretsRequestObject) (openapi.ListSecretsResponseObject, error) {
	w, err := h.theWorkflow(ctx, r.Workflow, auth.SecretManage)
	if err != nil {
		return nil, err
	}
	secrets, err := h.secrets.List(ctx, w.ID)
	if err != nil {
		return nil, err
	}
	answer := openapi.ListSecrets200JSONResponse{Data: make([]openapi.Secret, 0, len(secrets))}
	for i := range secrets {
		answer.Data = append(answer.Data, secretJSON(&secrets[i]))
	}
	return answer, nil
}

func (h *handlers) GetSecret(ctx context.Context, r openapi.GetSecretRequestObject) (openapi.GetSecretResponseObject, error) {
	w, err := h.theWorkflow(ctx, r.Workflow, auth.SecretManage)
	if err != nil {
		return nil, err
	}
	found, err := h.secrets.Get(ctx, w.ID, r.Key)
	if err != nil {
		return nil, err
	}
	return openapi.GetSecret200JSONResponse{
		Body: secretJSON(found), Headers: openapi.GetSecret200ResponseHeaders{ETag: revisionTag(found.Version)},
	}, nil
}

func (h *handlers) SetSecret(ctx context.Context, r openapi.SetSecretRequestObject) (openapi.SetSecretResponseObject, error) {
	w, err := h.theWorkflow(ctx, r.Workflow, auth.SecretManage)
	if err != nil {
		return nil, err
	}
	change := secret.Change{WorkflowID: w.ID, Key: r.Key, Value: redact.Value(r.Body.Value), Mask: valueOr(r.Body.Mask, true)}
	if r.Params.IfMatch != nil {
		newest, err := revisionOf(*r.Params.IfMatch)
		if err != nil {
			return nil, err
		}
		change.Newest = &newest
	}
	version, err := h.secrets.Set(ctx, actorOf(ctx), change)
	if err != nil {
		return nil, err
	}
	if err := h.signalSecrets(ctx, w.ID); err != nil {
		return nil, err
	}
	return openapi.SetSecret200JSONResponse{
		Body: openapi.SecretStored{Key: r.Key, Version: version}, Headers: openapi.SetSecret200ResponseHeaders{ETag: revisionTag(version)},
	}, nil
}

// signalSecrets has what runs mask what was set just now, also when who has set it is gone.
func (h *handlers) signalSecrets(ctx context.Context, workflowID uuid.UUID) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), signalTimeout)
	defer stop()
	return h.queue.SignalSecrets(ctx, workflowID)
}

func (h *handlers) DeleteSecret(ctx context.Context, r openapi.DeleteSecretRequestObject) (openapi.DeleteSecretResponseObject, error) {
	w, err := h.theWorkflow(ctx, r.Workflow, auth.SecretManage)
	if err != nil {
		return nil, err
	}
	if err := h.secrets.Delete(ctx, actorOf(ctx), w.ID, r.Key); err != nil {
		return nil, err
	}
	return openapi.DeleteSecret204Response{}, nil
}

func (h *handlers) RevealSecret(ctx context.Context, r openapi.RevealSecretRequestObject) (openapi.RevealSecretResponseObject, error) {
	w, err := h.theWorkflow(ctx, r.Workflow, auth.SecretReveal)
	if err != nil {
		return nil, err
	}
	if h.config.RevealOff {
		return nil, errs.E(errs.Forbidden, "This server reveals no values: FOUNDRY_REVEAL is off.")
	}
	value, version, err := h.secrets.Reveal(ctx, actorOf(ctx), w.ID, r.Key)
	if err != nil {
		return nil, err
	}
	return openapi.RevealSecret200JSONResponse{
		Body:    openapi.SecretRevealed{Key: r.Key, Version: version, Value: string(value)},
		Headers: openapi.RevealSecret200ResponseHeaders{CacheControl: "no-store"},
	}, nil
}

// ImportSecrets sets what can be set, each in its own transaction, and says what became of every line.
func (h *handlers) ImportSecrets(ctx context.Context, r openapi.ImportSecretsRequestObject) (openapi.ImportSecretsResponseObject, error) {
	w, err := h.theWorkflow(ctx, r.Workflow, auth.SecretManage)
	if err != nil {
		return nil, err
	}
	existing, err := h.secrets.List(ctx, w.ID)
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool, len(existing))
	for _, s := range existing {
		known[s.Key] = true
	}
	assignments, faults := secret.ParseDotenv(r.Body.Text)
	dry := valueOr(r.Params.DryRun, false)
	rows, changed, err := h.importAll(ctx, w.ID, assignments, known, dry)
	if changed { // a part of it, perhaps
		if failed := h.signalSecrets(ctx, w.ID); err == nil {
			err = failed
		}
	}
	if err != nil {
		return nil, err
	}
	for _, f := range faults {
		rows = append(rows, openapi.SecretImportRow{Line: f.Line, Result: openapi.Invalid, Reason: new(asSentence(f.Message))})
	}
	slices.SortStableFunc(rows, func(a, b openapi.SecretImportRow) int { return a.Line - b.Line })
	return openapi.ImportSecrets200JSONResponse{DryRun: dry, Data: rows}, nil
}

// importAll returns a row for each assignment, and whether anything was set, also with an error.
func (h *handlers) importAll(
	ctx context.Context, workflowID uuid.UUID, assignments []secret.Assignment, known map[string]bool, dry bool,
) (rows []openapi.SecretImportRow, changed bool, err error) {
	rows = make([]openapi.SecretImportRow, 0, len(assignments))
	for _, a := range assignments {
		row := openapi.SecretImportRow{Line: a.Line, Key: &a.Key, Result: openapi.New}
		if known[a.Key] {
			row.Result = openapi.Replaces
		}
		version, err := h.importOne(ctx, secret.Change{WorkflowID: workflowID, Key: a.Key, Value: a.Value, Mask: true}, dry)
		switch code := errs.CodeOf(err); {
		case code == errs.Validation || code == errs.TooLarge:
			row.Result, row.Reason = openapi.Invalid, new(errorOf(err).Message)
		case err != nil:
			return nil, changed, err
		case !dry:
			row.Version, changed = &version, true
		}
		known[a.Key] = known[a.Key] || err == nil
		rows = append(rows, row)
	}
	return rows, changed, nil
}

func (h *handlers) importOne(ctx context.Context, c secret.Change, dry bool) (version int, err error) {
	if dry {
		return 0, secret.CheckValue(c.Value, c.Mask)
	}
	return h.secrets.Set(ctx, actorOf(ctx), c)
}

func secretJSON(s *secret.Info) openapi.Secret {
	return openapi.Secret{
		Key: s.Key, Version: s.Version, Mask: s.Mask, UpdatedBy: s.UpdatedBy, UpdatedAt: s.UpdatedAt.UTC(), LastUsedAt: inUTC(s.LastUsedAt),
	}
}

// asSentence makes one of a message that begins small and ends without a stop.
func asSentence(message string) string {
	return strings.ToUpper(message[:1]) + message[1:] + "."
}
