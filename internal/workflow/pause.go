package workflow

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"foundry/internal/auth"
	"foundry/internal/errs"
	"foundry/internal/expr"
)

// Limits of what holds no worker.
const (
	MinWait   = time.Second
	MaxWait   = 30 * 24 * time.Hour
	MaxPrompt = 4 << 10 // bytes of an approval's message
)

// ApprovalOutputs returns the names of an approval's outputs: whether it was approved, by whom, and what they said.
func ApprovalOutputs() []string { return []string{"approved", "by", "comment"} }

// ParseWait reads the duration of a wait, as in 90s, 1h30m or 2d, from MinWait to MaxWait. The error is a sentence.
func ParseWait(text string) (time.Duration, error) {
	d, ok := ParseDuration(text)
	switch {
	case !ok:
		return 0, errs.E(errs.Validation, "%q is not a duration.", brief(text))
	case d < MinWait || d > MaxWait:
		return 0, errs.E(errs.Validation, "A wait takes from %s to %dd; this is %s.", MinWait, MaxWait/(24*time.Hour), brief(text))
	}
	return d, nil
}

// ParseInstant reads the end of a wait, RFC 3339 with its zone, which may have passed. The error is a sentence.
func ParseInstant(text string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, errs.E(errs.Validation, "%q is not a time.", brief(text))
	}
	return at, nil
}

// brief cuts what a message quotes.
func brief(text string) string {
	const most = 64
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

const instantHint = "Write an RFC 3339 time with its zone, as in 2026-12-01T08:00:00Z."

// approvalFields are those of an approval. A node's timeout is here how long it waits.
func (c *compiler) approvalFields(n *Node, index int) []field {
	return []field{
		{"approval", func(v *value) { c.approval(n, v, index) }},
		{"timeout", func(v *value) { n.Timeout = c.duration(v, 0) }},
	}
}

// approval reads a message alone, or a mapping, which may be empty.
func (c *compiler) approval(n *Node, v *value, index int) {
	n.Approval = &Approval{}
	switch v.shape {
	case shapeString:
		n.Approval.Message = c.message(v, index)
	case shapeMap:
		c.object(v, c.promptFields(n.Approval, index))
	case shapeNull, shapeBool, shapeNumber, shapeList:
		c.fault(v.mark, v.path, "bad_type", fmt.Sprintf("Expected a message or a mapping, found %s.", v.shape), "Write approval: \"Publish?\", or approval: {} for no message.")
	case shapeInvalid:
	}
}

func (c *compiler) promptFields(a *Approval, index int) []field {
	return []field{
		{"message", func(v *value) { a.Message = c.message(v, index) }},
		{"roles", func(v *value) { a.Roles = c.roles(v) }},
	}
}

func (c *compiler) message(v *value, index int) *expr.Template {
	if !c.shaped(v, shapeString) {
		return nil
	}
	if strings.TrimSpace(v.text) == "" {
		c.fault(v.mark, v.path, "bad_value", "The message is empty.", "Write approval: {} for no message.")
	}
	if len(v.text) > MaxPrompt {
		c.fault(v.mark, v.path, "too_large", fmt.Sprintf("A message has at most %d KiB; this one has %d bytes.", MaxPrompt>>10, len(v.text)), "")
	}
	return c.template(v, placePause, index)
}

// roles reads a list of roles, or one.
func (c *compiler) roles(v *value) []string {
	items := []*value{v}
	if v.shape != shapeString {
		items = c.strings(v)
		if v.shape == shapeList && len(v.items) == 0 {
			c.fault(v.mark, v.path, "bad_value", "The list of roles is empty.", "Leave the key out: everybody who may run the workflow decides.")
		}
	}
	known := make([]string, 0, len(auth.Roles()))
	for _, role := range auth.Roles() {
		known = append(known, string(role))
	}
	var roles []string
	for _, item := range items {
		role := c.word(item, known...)
		switch {
		case role == "":
			continue
		case slices.Contains(roles, role):
			c.fault(item.mark, item.path, "duplicate_role", fmt.Sprintf("%q is listed twice.", role), "")
			continue
		case role == string(auth.Viewer):
			c.warn(item.mark, item.path, "viewer_decides_nothing", "Viewers may not run workflows, so they do not decide either.", "")
		}
		roles = append(roles, role)
	}
	return roles
}

// wait reads a duration alone, or a mapping with one of its two keys.
func (c *compiler) wait(n *Node, v *value, index int) {
	n.Wait = &Wait{}
	if v.shape != shapeMap {
		n.Wait.For = c.pause(v, index)
		return
	}
	c.object(v, c.waitFields(n.Wait, index))
	duration, until := v.entry("for"), v.entry("until")
	switch {
	case duration != nil && until != nil:
		c.fault(until.mark, until.path, "conflict", "A wait has a duration or an end, not both.", "Leave out for or until.")
	case len(v.entries) == 0:
		c.fault(v.mark, v.path, "missing_key", "The wait has no end.", "Write wait: 10m, or wait: { until: … } with a time.")
	}
}

func (c *compiler) waitFields(w *Wait, index int) []field {
	return []field{
		{"for", func(v *value) { w.For = c.pause(v, index) }},
		{"until", func(v *value) { w.Until = c.instant(v, index) }},
	}
}

// pause reads the duration of a wait. One with an expression is looked at when the node runs.
func (c *compiler) pause(v *value, index int) *expr.Template {
	if v.shape == shapeNumber {
		c.fault(v.mark, v.path, "bad_duration", fmt.Sprintf("The duration %s has no unit.", v.text), durationHint)
		return nil
	}
	if !c.shaped(v, shapeString) {
		return nil
	}
	if !strings.Contains(v.text, "${{") {
		if _, err := ParseWait(v.text); err != nil {
			hint := ""
			if _, ok := ParseDuration(v.text); !ok {
				hint = durationHint
			}
			c.fault(v.mark, v.path, "bad_duration", err.Error(), hint)
			return nil
		}
	}
	return c.template(v, placePause, index)
}

// instant reads the end of a wait. One with an expression is looked at when the node runs.
func (c *compiler) instant(v *value, index int) *expr.Template {
	if !c.shaped(v, shapeString) {
		return nil
	}
	if !strings.Contains(v.text, "${{") {
		if _, err := ParseInstant(v.text); err != nil {
			c.fault(v.mark, v.path, "bad_time", err.Error(), instantHint)
			return nil
		}
	}
	return c.template(v, placePause, index)
}
