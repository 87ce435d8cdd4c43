package cli

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"foundry/internal/audit"
	"foundry/internal/auth"
	"foundry/internal/devstack"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const adasPassword = " correct horse battery " // its spaces count

// site is a control plane, and the commands of a machine that talks to it.
type site struct {
	pool         *pgxpool.Pool
	accounts     *auth.Store
	organization uuid.UUID
	url          string
}

// install makes an organization of which Ada is the owner and Bob an editor. The machine is a home of its own, which is a matter of
// the environment, so its tests are not parallel.
func install(t *testing.T) *site {
	t.Helper()
	home := t.TempDir()
	for name, value := range map[string]string{"HOME": home, "XDG_CONFIG_HOME": filepath.Join(home, "config"), "FOUNDRY_URL": "", "FOUNDRY_TOKEN": ""} {
		t.Setenv(name, value)
	}
	t.Chdir(t.TempDir())
	database := pgtest.Database(t)
	i := &site{pool: pgtest.Open(t, database, postgres.Options{})}
	i.accounts = auth.NewStore(i.pool)
	var err error
	if i.organization, err = i.accounts.EnsureOrganization(t.Context(), "acme", "Acme"); err != nil {
		t.Fatal(err)
	}
	for email, role := range map[string]auth.Role{"ada@example.com": auth.Owner, "bob@example.com": auth.Editor} {
		i.person(t, email, role)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	i.url = "http://" + listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- devstack.ControlPlane{DatabaseURL: database, DirectURL: database, Listener: listener, Log: zerolog.Nop(), Drain: 10 * time.Second}.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the control plane: %v", err)
		}
	})
	return i
}

// person makes a member with adasPassword.
func (i *site) person(t *testing.T, email string, role auth.Role) {
	t.Helper()
	link, err := i.accounts.EnsureUser(t.Context(), auth.EnsureUser{OrganizationID: i.organization, Email: email, Role: role})
	if err != nil {
		t.Fatal(err)
	}
	session, err := i.accounts.UseLink(t.Context(), link.Reveal(), auth.Origin{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := i.accounts.AuthenticateSession(t.Context(), session.Token.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	actor := audit.Actor{OrganizationID: i.organization, Kind: audit.User, ID: p.UserID, Name: email}
	if err := i.accounts.ChangePassword(t.Context(), actor, auth.ChangePassword{By: p, New: adasPassword}); err != nil {
		t.Fatal(err)
	}
	if err := i.accounts.EndSession(t.Context(), actor, *p.UserID, *p.SessionID); err != nil {
		t.Fatal(err)
	}
}

func (*site) run(t *testing.T, in string, args ...string) (code int, out, problem string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = Run(t.Context(), args, IO{In: strings.NewReader(in), Out: &stdout, Err: &stderr})
	return code, stdout.String(), stderr.String()
}

// TestLoginWithAPassword is not parallel: see install.
func TestLoginWithAPassword(t *testing.T) {
	t.Setenv("FOUNDRY_TOKEN", "")
	i := install(t)
	file, err := loginPath()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		password, want string
		code           int
		args           []string
	}{
		"wrong":                    {"not that one\n", "password", exitCredentials, []string{"--email", "ada@example.com"}},
		"cut":                      {strings.TrimSpace(adasPassword) + "\n", "password", exitCredentials, []string{"--email", "ada@example.com"}},
		"none":                     {"\n", "Nothing was given", exitUsage, []string{"--email", "ada@example.com"}},
		"another's organization":   {adasPassword + "\n", "umbrella", exitCredentials, []string{"--email", "ada@example.com", "--organization", "umbrella"}},
		"organization of a token":  {"fdy_x\n", "--organization goes with --email", exitUsage, []string{"--organization", "acme"}},
		"password as an argument":  {"", "unknown flag", exitUsage, []string{"--email", "ada@example.com", "--password", adasPassword}},
		"password as one argument": {"", "Usage", exitUsage, []string{"--email", "ada@example.com", adasPassword}},
	} {
		code, _, problem := i.run(t, c.password, append([]string{"login", i.url}, c.args...)...)
		if code != c.code || !strings.Contains(problem, c.want) {
			t.Errorf("%s: %d %q, want %d and %q", name, code, problem, c.code, c.want)
		}
	}
	if n := pgtest.Get[int](t, i.pool, "SELECT count(*) FROM tokens"); n != 0 {
		t.Errorf("%d tokens were made", n)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("a refused login was kept (%v)", err)
	}

	code, out, problem := i.run(t, adasPassword+"\r\n", "login", i.url, "--email", "ada@example.com", "--organization", "acme")
	name := loginTokenName()
	if want := "Commands now reach " + i.url + " as " + name + ", owner of acme.\n"; code != exitOK || out != want || problem != "" {
		t.Fatalf("login: %d %q %q, want %q", code, out, problem, want)
	}
	kept, err := os.ReadFile(file)
	if err != nil || bytes.Contains(kept, []byte(strings.TrimSpace(adasPassword))) || !bytes.Contains(kept, []byte("fdy_")) {
		t.Errorf("what is kept is not a token alone (%v)", err)
	}
	if n := pgtest.Get[int](t, i.pool, "SELECT count(*) FROM sessions"); n != 0 {
		t.Errorf("%d sessions are left, want none", n)
	}
	if !pgtest.Get[bool](t, i.pool, "SELECT expires_at BETWEEN created_at + interval '90 days' - interval '1 minute' AND created_at + interval '90 days' + interval '1 minute' FROM tokens") {
		t.Error("the token does not last 90 days")
	}
	code, out, _ = i.run(t, "", "tokens", "list")
	if code != exitOK || !strings.Contains(out, name) || !strings.Contains(out, "ada@example.com") {
		t.Errorf("tokens list: %d %q", code, out)
	}
	id := pgtest.Get[string](t, i.pool, "SELECT id::text FROM tokens")
	if code, _, problem := i.run(t, "", "tokens", "rm", id); code != exitOK {
		t.Errorf("tokens rm: %d %q", code, problem)
	}
	if code, _, _ := i.run(t, "", "tokens", "list"); code != exitCredentials {
		t.Errorf("the revoked token still works: %d", code)
	}
}

// TestMembersLeave is not parallel: see install.
func TestMembersLeave(t *testing.T) {
	i := install(t)
	login := func(email string) {
		if code, _, problem := i.run(t, adasPassword+"\n", "login", i.url, "--email", email); code != exitOK {
			t.Fatalf("login: %d %q", code, problem)
		}
	}
	login("ada@example.com")
	if code, _, problem := i.run(t, "", "members", "leave", "acme"); code != exitFailed || !strings.Contains(problem, "This is the last owner of the organization. Make somebody else owner first.") {
		t.Errorf("the last owner leaves: %d %q", code, problem)
	}
	login("bob@example.com")
	code, out, _ := i.run(t, "", "members", "list")
	if lines := strings.Split(out, "\n"); code != exitOK || len(lines) != 4 || !strings.Contains(out, "bob@example.com") || !strings.Contains(out, "owner") {
		t.Errorf("members list: %d %q", code, out)
	}
	if code, out, _ := i.run(t, "", "members", "list", "--json"); code != exitOK || strings.Count(out, `"role"`) != 2 {
		t.Errorf("members list --json: %d %q", code, out)
	}
	if code, _, problem := i.run(t, "", "members", "leave", "umbrella"); code != exitUsage || !strings.Contains(problem, `of the organization "acme"`) {
		t.Errorf("leaving another organization: %d %q", code, problem)
	}
	code, out, problem := i.run(t, "", "members", "leave", "acme")
	if code != exitOK || out != "You have left acme; your tokens and sessions in it are revoked.\n" {
		t.Fatalf("leaving: %d %q %q", code, out, problem)
	}
	if left := pgtest.Get[string](t, i.pool, "SELECT string_agg(u.email, ' ') FROM members m JOIN users u ON u.id = m.user_id"); left != "ada@example.com" {
		t.Errorf("the members are %s", left)
	}
	if code, _, _ := i.run(t, "", "members", "list"); code != exitCredentials {
		t.Errorf("who has left still reads members: %d", code)
	}
	token, err := i.accounts.Create(t.Context(), i.organization, "machine", 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("FOUNDRY_TOKEN", token.Reveal())
	t.Setenv("FOUNDRY_URL", i.url)
	if code, _, problem := i.run(t, "", "members", "leave", "acme"); code != exitUsage || !strings.Contains(problem, "No person stands behind this token") {
		t.Errorf("a machine leaves: %d %q", code, problem)
	}
}
