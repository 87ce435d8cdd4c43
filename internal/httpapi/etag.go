package httpapi

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"foundry/internal/errs"
)

// Codes of conditional requests (RFC 9110, 13).
const (
	preconditionFailed   errs.Code = "precondition_failed"
	preconditionRequired errs.Code = "precondition_required"
)

// revisionTag is the ETag of what counts its changes.
func revisionTag[N int | int64](revision N) string {
	return fmt.Sprintf(`"%d"`, revision)
}

// contentTag is the ETag of what does not: a hash of the answer.
func contentTag(answer any) (string, error) {
	encoded, err := json.Marshal(answer)
	if err != nil {
		return "", fmt.Errorf("encoding an answer: %w", err)
	}
	sum := sha256.Sum256(encoded)
	return `"` + hex.EncodeToString(sum[:12]) + `"`, nil
}

// unchanged reports whether If-None-Match names the tag. The comparison is weak, as the RFC has it.
func unchanged(header *string, tag string) bool {
	if header == nil {
		return false
	}
	return slices.ContainsFunc(entityTags(*header), func(t string) bool {
		return t == "*" || strings.TrimPrefix(t, "W/") == tag
	})
}

// revisionOf reads If-Match: 0 for *, and the one revision that it names.
func revisionOf(header string) (int64, error) {
	tags := entityTags(header)
	if len(tags) != 1 {
		return 0, errs.E(errs.Invalid, "The header If-Match names one ETag, or is *.")
	}
	if tags[0] == "*" {
		return 0, nil
	}
	text, ok := strings.CutPrefix(tags[0], `"`)
	revision, err := strconv.ParseInt(strings.TrimSuffix(text, `"`), 10, 64)
	if !ok || err != nil || revision < 1 {
		return 0, errs.E(preconditionFailed, "The ETag in If-Match is not one of this resource; read it again.")
	}
	return revision, nil
}

// requiredRevision is revisionOf for changes that must say what they mean to change.
func requiredRevision(header *string) (int64, error) {
	if header == nil {
		return 0, errs.E(preconditionRequired, "Send the ETag of what you have read as If-Match, or * for any.")
	}
	return revisionOf(*header)
}

// entityTags splits a list of tags. Ours hold no commas.
func entityTags(header string) []string {
	var tags []string
	for tag := range strings.SplitSeq(header, ",") {
		if tag = strings.TrimSpace(tag); tag != "" {
			tags = append(tags, tag)
		}
	}
	return tags
}
