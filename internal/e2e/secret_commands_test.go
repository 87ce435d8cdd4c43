package e2e

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"foundry/api/client"
	"foundry/internal/pgtest"
	"foundry/internal/secret"
)

const keysVariable = "FOUNDRY_ENCRYPTION_KEYS="

// vault is an installation without a worker, whose control plane has encryption keys, and the workflow named vault.
func vault(t *testing.T, keys ...string) *installation {
	t.Helper()
	i := &installation{api: api{t: t}, dir: workDir(t), database: pgtest.Database(t), port: pgtest.FreePort(t)}
	i.url = "http://127.0.0.1:" + strconv.Itoa(i.port)
	token := spawn(t, i.dir, environ("DATABASE_URL="+i.database), nil, "admin", "token")
	if code := token.wait(); code != 0 {
		t.Fatalf("admin token: exit code %d: %s", code, token.err.String())
	}
	i.token = strings.TrimSpace(token.out.String())
	i.serveWith(keys...)
	i.push("name: vault\nnodes:\n  a: { run: 'true' }\n", nil)
	return i
}

// serveWith starts the control plane with these keys, in the place of one that runs.
func (i *installation) serveWith(keys ...string) {
	i.t.Helper()
	if i.serve != nil {
		i.serve.stop(syscall.SIGTERM)
	}
	env := environ("DATABASE_URL="+i.database, "PORT="+strconv.Itoa(i.port), keysVariable+strings.Join(keys, ","))
	i.serve = spawn(i.t, i.dir, env, nil, "serve")
	i.ready()
}

// secrets runs `foundry secrets` with a standard input, on the workflow vault.
func (i *installation) secrets(stdin string, args ...string) *proc {
	i.t.Helper()
	p := spawn(i.t, i.dir, i.client(), reading(stdin), append([]string{"secrets", "-w", "vault"}, args...)...)
	p.wait()
	return p
}

func reading(stdin string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) { cmd.Stdin = strings.NewReader(stdin) }
}

// wants checks how a command has ended, and that it wrote what is expected. An empty text stands for silence.
func (p *proc) wants(code int, stdout, stderr string) {
	p.t.Helper()
	out, problem := p.out.String(), p.err.String()
	if p.code() != code || !strings.Contains(out, stdout) || !strings.Contains(problem, stderr) || (stdout == "" && out != "") || (stderr == "" && problem != "") {
		p.t.Errorf("foundry %s: exit code %d, stdout %q, stderr %q; want %d, %q, %q", p.name, p.code(), tail(out), tail(problem), code, stdout, stderr)
	}
}

func TestSecretCommands(t *testing.T) {
	t.Parallel()
	i := vault(t, secret.NewKey("a"))
	const first, second, lines = "value-of-old-42", "value-of-new-43", "-----BEGIN-----\r\nabc def\n\n-----END-----"
	var all []*proc // but reveal: none of them may tell a value
	step := func(stdin string, args ...string) *proc {
		p := i.secrets(stdin, args...)
		all = append(all, p)
		return p
	}
	step(first+"\n", "set", "TOKEN").wants(0, "TOKEN version 1 is stored.\n", "")
	step(second, "set", "TOKEN").wants(0, "TOKEN version 2 is stored.\n", "")
	step(lines+"\n", "set", "PEM", "--json").wants(0, `{"key":"PEM","version":1}`, "")
	step("tiny", "set", "SMALL").wants(2, "", "with --no-mask it is stored")
	step("tiny", "set", "SMALL", "--no-mask").wants(0, "SMALL version 1", "")
	step("", "set", "EMPTY").wants(1, "", "A value is not empty")
	step(first, "set", "FOUNDRY_X").wants(1, "", "Keys that begin with FOUNDRY_ are reserved.")
	step(first, "set", "1X").wants(1, "", "does not begin with a digit")
	step("", "set", "TOKEN", first).wants(2, "", "Usage: foundry secrets set KEY -w WORKFLOW")
	step(strings.Repeat("x", secret.MaxValue+3), "set", "LONG").wants(2, "", "longer than the")

	list := step("", "list")
	list.wants(0, "KEY ", "")
	for _, want := range []string{"PEM ", "SMALL ", "TOKEN  2 ", "never"} {
		if got := strings.Join(strings.Fields(list.out.String()), "  ") + " "; !strings.Contains(got, strings.TrimSpace(want)) {
			t.Errorf("secrets list lacks %q:\n%s", want, list.out.String())
		}
	}
	if listed := decode[client.Secrets](t, step("", "list", "--json").out.Bytes()); len(listed.Data) != 3 || listed.Data[2].Version != 2 {
		t.Errorf("secrets list --json has %+v", listed.Data)
	}

	i.secrets("", "reveal", "TOKEN").wants(0, second+"\n", "")
	if got := i.secrets("", "reveal", "PEM").out.String(); got != lines+"\n" {
		t.Errorf("reveal writes %q, want %q", got, lines+"\n")
	}
	if r := decode[client.SecretRevealed](t, i.secrets("", "reveal", "TOKEN", "--json").out.Bytes()); r.Value != second || r.Version != 2 {
		t.Errorf("reveal --json has version %d, value %q", r.Version, r.Value)
	}
	step("", "reveal", "NONE").wants(1, "", "foundry: ")

	step("", "rm", "TOKEN").wants(0, "TOKEN is removed.\n", "")
	step("", "rm", "TOKEN").wants(1, "", "foundry: ")
	step("", "reveal", "TOKEN").wants(1, "", "foundry: ")
	for _, p := range append(all, i.serve) {
		for _, value := range []string{first, second, "abc def"} {
			if strings.Contains(p.out.String()+p.err.String(), value) {
				t.Errorf("foundry %s tells %q", p.name, value)
			}
		}
	}
}

func TestSecretCommandsRefuse(t *testing.T) {
	t.Parallel()
	i := vault(t, secret.NewKey("a"))
	viewer := strings.TrimSpace(i.must("tokens", "create", "looks", "--role", "viewer"))
	narrow := strings.TrimSpace(i.must("tokens", "create", "runs", "--scope", "executions:write"))
	for _, args := range [][]string{{"set", "A"}, {"list"}, {"rm", "A"}, {"import", "-"}, {"reveal", "A"}} {
		tests := []struct {
			name, token, workflow string
			code                  int
			sentence              string
		}{
			{"no workflow is named", i.token, "", 2, "Name the workflow with -w WORKFLOW."},
			{"an unknown workflow", i.token, "none", 1, "foundry: "},
			{"an unknown token", "fdy_wrong", "vault", 4, "foundry admin token"},
			{"a viewer", viewer, "vault", 4, "foundry: "},
			{"a narrow token", narrow, "vault", 4, "foundry: "},
		}
		for _, tt := range tests {
			t.Run(args[0]+" by "+tt.name, func(t *testing.T) {
				t.Parallel()
				env := environ("FOUNDRY_URL="+i.url, "FOUNDRY_TOKEN="+tt.token)
				p := spawn(t, i.dir, env, reading("A=value-of-a"), append([]string{"secrets", "-w", tt.workflow}, args...)...)
				p.wait()
				p.wants(tt.code, "", tt.sentence)
			})
		}
	}
}

func TestSecretImport(t *testing.T) {
	t.Parallel()
	i := vault(t, secret.NewKey("a"))
	i.secrets("value-of-old-42", "set", "TOKEN").wants(0, "version 1", "")
	const text = "# for the report\nexport TOKEN='value-of-new-43'\nPEM=\"one line\nanother line\"\n\nPATH=/bin/of-nobody\nnonsense-of-a-line\n"
	name := filepath.Join(i.dir, "my.env")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := "line 2: Replaces TOKEN\nline 3: New PEM\nline 6: Invalid: This is not KEY=value with a key that may be used.\nline 7: Invalid: This is not KEY=value with a key that may be used.\n"
	dry := i.secrets("", "import", name, "--dry-run")
	dry.wants(1, "Nothing was stored: this was a dry run.\n", "")
	i.secrets("", "reveal", "TOKEN").wants(0, "value-of-old-42\n", "")
	i.secrets("", "reveal", "PEM").wants(1, "", "foundry: ")

	stored := i.secrets("", "import", name)
	for _, p := range []*proc{dry, stored} {
		if got, _, _ := strings.Cut(p.out.String(), "Nothing was"); p.code() != 1 || got != want {
			t.Errorf("foundry %s: exit code %d,\n%swant 1 and\n%s", p.name, p.code(), got, want)
		}
	}
	i.secrets("", "reveal", "TOKEN").wants(0, "value-of-new-43\n", "")
	i.secrets("", "reveal", "PEM").wants(0, "one line\nanother line\n", "")
	i.secrets("OTHER=of-standard-input", "import", "-").wants(0, "line 1: New OTHER\n", "")
	if got := decode[client.SecretImported](t, i.secrets("OTHER=of-standard-input-2", "import", "-", "--json").out.Bytes()); len(got.Data) != 1 || got.Data[0].Result != client.Replaces {
		t.Errorf("import --json has %+v", got.Data)
	}
	i.secrets("", "import", filepath.Join(i.dir, "none.env")).wants(2, "", "cannot be read")
}

func TestKeygen(t *testing.T) {
	t.Parallel()
	keygen := func(args ...string) *proc {
		p := spawn(t, t.TempDir(), environ(), nil, append([]string{"keygen"}, args...)...)
		p.wait()
		return p
	}
	one, two := keygen(), keygen("--id", "2027-01_b")
	one.wants(0, "key1:", "")
	two.wants(0, "2027-01_b:", "")
	for _, p := range []*proc{one, two} {
		_, encoded, _ := strings.Cut(strings.TrimSuffix(p.out.String(), "\n"), ":")
		if raw, err := base64.StdEncoding.DecodeString(encoded); err != nil || len(raw) != 32 {
			t.Errorf("%q is not the base64 of 32 bytes (%v)", encoded, err)
		}
	}
	_, a, _ := strings.Cut(one.out.String(), ":")
	if _, b, _ := strings.Cut(two.out.String(), ":"); a == b {
		t.Error("two keys are the same")
	}
	var made struct{ ID, Key string }
	if err := json.Unmarshal(keygen("--json", "--id", "x").out.Bytes(), &made); err != nil || made.ID != "x" || !strings.HasPrefix(made.Key, "x:") {
		t.Errorf("keygen --json has %+v (%v)", made, err)
	}
	for _, id := range []string{"", "a b", "a:b", "a,b", strings.Repeat("a", 33)} {
		keygen("--id", id).wants(2, "", "is not an id")
	}
}
