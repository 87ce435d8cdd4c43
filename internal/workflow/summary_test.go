package workflow

import (
	"fmt"
	"time"
)

// summary is a definition as the golden files show it.
type summary struct {
	Name, Description     string
	Inputs                []inputSummary
	Env                   []string
	Sandbox               Sandbox
	Files                 []File
	Timeout, QueueTimeout time.Duration
	MaxParallel, Priority int
	Concurrency           string `json:",omitempty"`
	Nodes                 []nodeSummary
	Order                 []string
	Outputs               []string
	Warnings              Diagnostics
}

type inputSummary struct {
	Name, Description    string
	Type                 InputType
	Required             bool
	Default              any
	Enum                 []any
	Minimum, Maximum     *float64
	MinLength, MaxLength *int
	Pattern              string
}

type nodeSummary struct {
	Key             string
	Kind            Kind
	Description     string   `json:",omitempty"`
	Needs           []string `json:",omitempty"`
	If              string   `json:",omitempty"`
	ContinueOnError bool     `json:",omitempty"`
	Script          string   `json:",omitempty"`
	Shell           Shell    `json:",omitempty"`
	Env             []string `json:",omitempty"`
	Timeout         string   `json:",omitempty"`
	Retries         *Retries `json:",omitempty"`
	RetryOn         []int    `json:",omitempty"`
	Secrets         []string `json:",omitzero"`
	Set             []string `json:",omitempty"`
	Approval        string   `json:",omitempty"`
	Wait            string   `json:",omitempty"`
}

func summarize(d *Definition, warnings Diagnostics) summary {
	s := summary{
		Name: d.Name, Description: d.Description, Sandbox: d.Sandbox, Files: d.Files,
		Timeout: d.Timeout, QueueTimeout: d.QueueTimeout, MaxParallel: d.MaxParallel, Priority: d.Priority,
		Env: envSummary(d.Env), Outputs: outputSummary(d.Outputs), Warnings: warnings,
	}
	if g := d.Concurrency; g != nil {
		s.Concurrency = fmt.Sprintf("%d of %v, else %s", g.Limit, g.Group, g.OnConflict)
	}
	for _, in := range d.Inputs {
		i := inputSummary{
			Name: in.Name, Description: in.Description, Type: in.Type, Required: in.Required, Default: in.Default,
			Enum: in.Enum, Minimum: in.Minimum, Maximum: in.Maximum, MinLength: in.MinLength, MaxLength: in.MaxLength,
		}
		if in.Pattern != nil {
			i.Pattern = in.Pattern.String()
		}
		s.Inputs = append(s.Inputs, i)
	}
	for _, n := range d.Nodes {
		s.Nodes = append(s.Nodes, summarizeNode(n))
	}
	for _, node := range d.Graph.Order() {
		s.Order = append(s.Order, d.Graph.Key(node))
	}
	return s
}

func summarizeNode(n Node) nodeSummary {
	s := nodeSummary{
		Key: n.Key, Kind: n.Kind, Description: n.Description, Needs: n.Needs, ContinueOnError: n.ContinueOnError,
		Script: n.Script, Shell: n.Shell, Env: envSummary(n.Env), RetryOn: n.RetryOn, Secrets: n.Secrets, Set: outputSummary(n.Set),
	}
	if n.If != nil {
		s.If = n.If.String()
	}
	if n.Timeout > 0 {
		s.Timeout = n.Timeout.String()
	}
	if n.Retries != (Retries{}) {
		s.Retries = &n.Retries
	}
	if a := n.Approval; a != nil {
		s.Approval = fmt.Sprintf("%v of %v", a.Message, a.Roles)
	}
	if w := n.Wait; w != nil {
		s.Wait = fmt.Sprintf("for %v until %v", w.For, w.Until)
	}
	return s
}

func envSummary(env []EnvVar) []string {
	var list []string
	for _, v := range env {
		list = append(list, v.Name+"="+v.Value.String())
	}
	return list
}

func outputSummary(outputs []Output) []string {
	var list []string
	for _, o := range outputs {
		list = append(list, o.Name+": "+o.Value.String())
	}
	return list
}
