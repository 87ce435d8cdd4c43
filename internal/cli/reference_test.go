package cli

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"foundry/internal/config"
)

const (
	referenceFile                 = "../../docs/cli.md"
	referenceBegin, referenceStop = "<!-- generated: begin -->\n", "<!-- generated: end -->"
)

var update = flag.Bool("update", false, "rewrite the generated part of docs/cli.md")

func TestReferenceIsThatOfTheProgram(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), referenceBegin)
	old, after, closed := strings.Cut(rest, referenceStop)
	if !found || !closed {
		t.Fatal("docs/cli.md has lost its marks")
	}
	want := renderProgram(t)
	if *update {
		if err := os.WriteFile(referenceFile, []byte(before+referenceBegin+want+referenceStop+after), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if old != want {
		t.Error("docs/cli.md is stale: go test ./internal/cli -run TestReferenceIs -update")
	}
}

// renderProgram is the generated part of docs/cli.md.
func renderProgram(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	root := newRoot(&app{IO: IO{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard}})
	out.WriteString("\n## Commands\n\n| command | what it does |\n|---|---|\n")
	all := leaves(root)
	for _, cmd := range all {
		fmt.Fprintf(&out, "| [`%s`](#%s) | %s |\n", cmd.CommandPath(), anchor(cmd), cmd.Short)
	}
	fmt.Fprintf(&out, "\nEvery command takes `--json` (%s) and `--help`.\n", root.PersistentFlags().Lookup("json").Usage)
	for _, cmd := range all {
		renderCommand(&out, cmd)
	}
	renderExitCodes(&out)
	renderEnvironment(t, &out)
	out.WriteString("\n")
	return out.String()
}

// leaves are the commands that do something, in the order of their names.
func leaves(cmd *cobra.Command) []*cobra.Command {
	if !cmd.HasSubCommands() {
		return []*cobra.Command{cmd}
	}
	var found []*cobra.Command
	for _, child := range cmd.Commands() {
		if !child.Hidden {
			found = append(found, leaves(child)...)
		}
	}
	return found
}

func anchor(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

func renderCommand(out *strings.Builder, cmd *cobra.Command) {
	fmt.Fprintf(out, "\n### `%s`\n\n%s.\n", cmd.CommandPath(), strings.TrimSuffix(cmd.Short, "."))
	fmt.Fprintf(out, "\n```\n%s\n```\n", cmd.UseLine())
	if cmd.Long != "" {
		fmt.Fprintf(out, "\n%s\n", cmd.Long)
	}
	var rows []string
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s |\n", name, f.Value.Type(), preset(f), f.Usage))
	})
	if len(rows) > 0 {
		out.WriteString("\n| flag | value | default | meaning |\n|---|---|---|---|\n" + strings.Join(rows, ""))
	}
	if cmd.Example != "" {
		fmt.Fprintf(out, "\nExample:\n\n```\n%s\n```\n", cmd.Example)
	}
}

// preset is a flag's default; one that says nothing is not shown.
func preset(f *pflag.Flag) string {
	if slices.Contains([]string{"", "0", "0s", "false", "[]"}, f.DefValue) {
		return ""
	}
	return "`" + f.DefValue + "`"
}

func renderExitCodes(out *strings.Builder) {
	out.WriteString("\n## Exit codes\n\n| code | meaning |\n|---|---|\n")
	for _, row := range []struct {
		code    int
		meaning string
	}{
		{exitOK, "Done. With `run --follow`: the execution has completed."},
		{exitFailed, "The execution has not completed, the text has mistakes, the server refused, or something went wrong."},
		{exitUsage, "A mistake in the command: an unknown flag, a missing argument, a file that is not there, no server known."},
		{exitCredentials, "The token is missing, unknown or expired, or has too few rights."},
		{exitInterrupted, "Ctrl-C. With `--follow`, only the showing ends: the execution goes on."},
	} {
		fmt.Fprintf(out, "| %d | %s |\n", row.code, row.meaning)
	}
}

// reader is a struct of package config, and who reads it.
type reader struct {
	who    string
	config any
}

func readers() []reader {
	return []reader{
		{"client commands", config.Client{}},
		{"`serve`", config.Serve{}},
		{"`worker`", config.Worker{}},
		{"`dev` and `admin`", config.Dev{}},
		{"`migrate`", config.Migrate{}},
		{"`secrets rekey`", config.Rekey{}},
	}
}

// variable is one of the environment, as the readers declare it.
type variable struct {
	readBy, defaults []string
	defaultOf        map[string][]string // who has this default
}

// preset is the variable's default, and whose it is where they differ.
func (v *variable) preset() string {
	if len(v.defaults) == 1 && v.defaults[0] == "" {
		return ""
	}
	if len(v.defaults) == 1 {
		return "`" + v.defaults[0] + "`"
	}
	var all []string
	for _, d := range v.defaults {
		all = append(all, "`"+d+"` for "+strings.Join(v.defaultOf[d], ", "))
	}
	return strings.Join(all, "; ")
}

// declared collects the variables of a struct and those inside of it.
func declared(t reflect.Type, who string, into map[string]*variable) {
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("env"), ",")
		if name == "" {
			if field.Type.Kind() == reflect.Struct {
				declared(field.Type, who, into)
			}
			continue
		}
		if into[name] == nil {
			into[name] = &variable{}
		}
		v := into[name]
		v.readBy = append(v.readBy, who)
		d := field.Tag.Get("envDefault")
		if !slices.Contains(v.defaults, d) {
			v.defaults = append(v.defaults, d)
		}
		if v.defaultOf == nil {
			v.defaultOf = map[string][]string{}
		}
		v.defaultOf[d] = append(v.defaultOf[d], who)
	}
}

// environment is every variable that the readers declare.
func environment() map[string]*variable {
	all := map[string]*variable{}
	for _, r := range readers() {
		declared(reflect.TypeOf(r.config), r.who, all)
	}
	return all
}

// meanings are what docs/cli.md says of each variable.
func meanings() map[string]string {
	return map[string]string{
		"DATABASE_URL":            "PostgreSQL 15 or later, `postgres://…`; may be a pooler. `dev` brings its own without it.",
		"DATABASE_URL_DIRECT":     "The same database without a pooler, for LISTEN, locks and migrations. Unless set, `DATABASE_URL`.",
		"FOUNDRY_DRAIN_TIMEOUT":   "How long an orderly end may take, at most `10m`.",
		"FOUNDRY_ENCRYPTION_KEYS": "Keys for secrets, `id:base64[,id:base64…]`: the first encrypts, all decrypt. `foundry keygen` makes one.",
		"FOUNDRY_ENVIRONMENT":     "What people are told this installation is, such as `staging`.",
		"FOUNDRY_KEEP_SANDBOX":    "Which sandboxes outlive their execution, where the workflow does not say: `never`, `on-failure` or `always`.",
		"FOUNDRY_LOCAL_SANDBOX":   "`bwrap` or `process`, instead of the strongest that works.",
		"FOUNDRY_PG_BIN":          "The folder of the PostgreSQL programs to use. Unless set, they are searched for, and fetched where there are none.",
		"FOUNDRY_PUBLIC_URL":      "How browsers reach the API.",
		"FOUNDRY_QUEUED_MAX":      "How many executions of a workflow may be queued, where the workflow does not say, at most 100000; more answer 429.",
		"FOUNDRY_DEBUG_ADDR":      "A loopback address and a port, such as `127.0.0.1:6060`, to serve Go profiles at `/debug/pprof/`. Unless set, they are not served.",
		"FOUNDRY_RATE_READS":      "How many reading requests a second a principal may make of one control plane, after a burst of twice as many.",
		"FOUNDRY_RATE_WRITES":     "How many changing requests a second a principal may make of one control plane, after a burst of four times as many.",
		"FOUNDRY_RETENTION_DAYS":  "How many days history is kept after all of its day has ended; `0`: for ever.",
		"FOUNDRY_REVEAL":          "`off`: the API answers no values of secrets.",
		"FOUNDRY_SANDBOX":         "The sandbox provider.",
		"FOUNDRY_STATE_DIR":       "Where local sandboxes live.",
		"FOUNDRY_TOKEN":           "The API token. It wins over that of `foundry dev` and of `foundry login`.",
		"FOUNDRY_URL":             "The server. It wins over `foundry dev` and `foundry login`.",
		"FOUNDRY_WORKER_LEASE":    "How long a worker that is not heard of keeps what it holds.",
		"FOUNDRY_WORKER_SLOTS":    "How many executions a worker holds at most, 1 to 1000.",
		"LOG_LEVEL":               "`trace`, `debug`, `info`, `warn` or `error`.",
		"NO_COLOR":                "Set to anything: no colours on a terminal.",
		"PORT":                    "Where `serve` listens, and where the health checks and metrics of `worker` do; 0 picks a free one.",
	}
}

func renderEnvironment(t *testing.T, out *strings.Builder) {
	t.Helper()
	out.WriteString("\n## Environment\n\n| variable | read by | default | meaning |\n|---|---|---|---|\n")
	all, meaning := environment(), meanings()
	for name := range all {
		if meaning[name] == "" {
			t.Errorf("meanings() does not say what %s is for", name)
		}
	}
	for name := range meaning {
		if all[name] == nil {
			t.Errorf("nothing reads %s, which meanings() explains", name)
		}
	}
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		v := all[name]
		readBy := strings.Join(v.readBy, ", ")
		if len(v.readBy) == len(readers())-1 && !slices.Contains(v.readBy, readers()[0].who) {
			readBy = "all but client commands"
		}
		fmt.Fprintf(out, "| `%s` | %s | %s | %s |\n", name, readBy, v.preset(), meaning[name])
	}
}

// TestEveryCommandIsExplained keeps help texts complete.
func TestEveryCommandIsExplained(t *testing.T) {
	t.Parallel()
	for _, cmd := range leaves(newRoot(&app{})) {
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: the short help is %q; want a phrase without a full stop", cmd.CommandPath(), cmd.Short)
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s is not explained", cmd.CommandPath(), f.Name)
			}
		})
		if cmd.Example == "" {
			continue
		}
		for line := range strings.Lines(cmd.Example) {
			checkCommandLine(t, line)
		}
	}
}

// TestDocumentedCommandsExist tries every foundry command line of the pages, up to where it would be carried out.
func TestDocumentedCommandsExist(t *testing.T) {
	t.Parallel()
	pages := []string{"../../README.md", "../../docs/ci.md", "../../docs/secrets.md", "../../docs/troubleshooting.md", "../../docs/workflows.md", "../../docs/api.md", "../../docs/operations.md"}
	tried := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			for _, code := range strings.Split(string(line), "`") {
				code = strings.TrimPrefix(strings.TrimSpace(code), "$ ")
				if strings.HasPrefix(code, "foundry ") {
					checkCommandLine(t, code)
					tried++
				}
			}
		}
	}
	if tried < 20 {
		t.Errorf("only %d command lines were found", tried)
	}
}

// checkCommandLine parses a line that calls foundry, perhaps at the end of a pipe or before a comment. Brackets of optional
// parts are left out.
func checkCommandLine(t *testing.T, line string) {
	t.Helper()
	_, call, found := strings.Cut(" "+strings.TrimSpace(line), " foundry ")
	if !found {
		t.Errorf("%q does not call foundry", line)
		return
	}
	call, _, _ = strings.Cut(call, " #")
	call = strings.NewReplacer("[", "", "]", "", "…", "", `"`, "", "'", "").Replace(call)
	root := newRoot(&app{})
	cmd, rest, err := root.Find(strings.Fields(call))
	if err == nil && cmd.HasSubCommands() && len(rest) > 0 {
		err = fmt.Errorf("there is no command %q", rest[0])
	}
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err != nil {
		t.Errorf("%q: %v", line, err)
	}
}
