package devstack

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"foundry/internal/config"
	"foundry/internal/errs"
	"foundry/internal/postgres"
	"foundry/internal/reconcile"
	"foundry/internal/sandbox"
	"foundry/internal/sandbox/local"
	"foundry/internal/secret"
)

// examTimeout bounds one check.
const examTimeout = 15 * time.Second

// Doctor examines an installation from where it runs: with this process's environment.
type Doctor struct {
	DatabaseURL, DirectURL string
	Secrets                config.Secrets
	Sandbox                config.Sandbox
}

// Finding is what one check has found. Detail is a sentence.
type Finding struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// Examine makes all checks, in the order in which they depend on each other; it changes nothing but what the start of a control plane does. One
// that cannot be made is not OK.
func (d Doctor) Examine(ctx context.Context) []Finding {
	pool, err := postgres.Open(ctx, d.DatabaseURL, postgres.Options{Name: "foundry doctor", MaxConns: 2})
	if err != nil {
		return []Finding{finding("database", "", err)}
	}
	defer pool.Close()
	checks := []struct {
		name string
		run  func(ctx context.Context, pool *pgxpool.Pool) (string, error)
	}{
		{"database", d.database},
		{"schema", func(ctx context.Context, pool *pgxpool.Pool) (string, error) {
			return "It is the one of this program.", postgres.CheckSchema(ctx, pool)
		}},
		{"notifications", d.notifications},
		{"keys", d.keys},
		{"sandboxes", d.sandboxes},
		{"adoption", func(ctx context.Context, pool *pgxpool.Pool) (string, error) {
			id, err := reconcile.NewStore(pool).Home(ctx)
			return fmt.Sprintf("This database is the home of the installation %s.", id), err
		}},
		{"connections", d.connections},
	}
	findings := make([]Finding, 0, len(checks))
	for _, check := range checks {
		limited, cancel := context.WithTimeout(ctx, examTimeout)
		detail, err := check.run(limited, pool)
		cancel()
		findings = append(findings, finding(check.name, detail, err))
		if err != nil && (check.name == "database" || check.name == "schema") {
			break // nothing else can be asked
		}
	}
	return findings
}

func finding(name, detail string, err error) Finding {
	if err == nil {
		return Finding{Name: name, OK: true, Detail: detail}
	}
	return Finding{Name: name, Detail: errs.MessageOf(err, "The check failed: "+err.Error()+".")}
}

func (d Doctor) database(ctx context.Context, pool *pgxpool.Pool) (string, error) {
	began := time.Now()
	f, err := readServer(ctx, pool)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("PostgreSQL %s answers within %s.", f.version, time.Since(began).Round(time.Millisecond)), nil
}

// notifications has a connection notify another one.
func (d Doctor) notifications(ctx context.Context, _ *pgxpool.Pool) (string, error) {
	listener, err := postgres.Listen(ctx, postgres.ListenConfig{
		URL: d.DirectURL, Name: "foundry doctor listen", Log: zerolog.Nop(), OnNotify: func(postgres.Notification) {},
	})
	if err != nil {
		return "", err
	}
	ended, end := context.WithCancel(ctx)
	end()
	return "A notification sent from one connection arrived at another.", listener.Run(ended) // which closes it
}

func (d Doctor) keys(ctx context.Context, pool *pgxpool.Pool) (string, error) {
	keys, err := Keyring(d.Secrets)
	if err != nil {
		return "", err
	}
	if keys == nil {
		return "FOUNDRY_ENCRYPTION_KEYS is not set here: secrets can be neither set nor read.", nil
	}
	return "The keys of FOUNDRY_ENCRYPTION_KEYS are those that this database was used with.", secret.NewStore(pool, keys).CheckKeys(ctx)
}

func (d Doctor) sandboxes(ctx context.Context, pool *pgxpool.Pool) (string, error) {
	provider, err := openSandboxes(ctx, d.Sandbox, zerolog.Nop())
	if err != nil {
		return "", err
	}
	id, err := installationID(ctx, pool)
	if err != nil {
		return "", err
	}
	infos, err := provider.List(ctx, map[string]string{sandbox.LabelInstallation: id.String()})
	if err != nil {
		return "", err
	}
	detail := fmt.Sprintf("%d sandboxes of this installation are at %s (%s).", len(infos), provider.place, provider.Level())
	if provider.Level() == local.Process {
		detail += " Commands are plain processes: they can do what the worker can do."
	}
	return detail, nil
}

// Connections that one process has at most (protocols.md, 11): its pool, LISTEN, and the lock of the loops or the lease.
const (
	controlPlaneConnections = poolSize + 2
	workerConnections       = workerPoolSize + 2
)

func (d Doctor) connections(ctx context.Context, pool *pgxpool.Pool) (string, error) {
	f, err := readServer(ctx, pool)
	if err != nil {
		return "", err
	}
	return f.judge()
}

// server is what a database server allows, and who of the installation uses it.
type server struct {
	version       string
	connections   int // for roles that are no superuser
	controlPlanes int // at least one: what is not running may be started
	workers       int
}

func (s server) judge() (string, error) {
	need := s.controlPlanes*controlPlaneConnections + s.workers*workerConnections
	text := fmt.Sprintf("%d control planes and %d workers need up to %d connections; the server allows %d.", s.controlPlanes, s.workers, need, s.connections)
	if need > s.connections {
		return "", errs.E(errs.Unavailable, "%s Raise max_connections, or run fewer processes.", text)
	}
	return text, nil
}

// Adopt makes the database the home of its installation (package reconcile). It reports false when it was already.
func Adopt(ctx context.Context, databaseURL string) (bool, error) {
	pool, err := postgres.Open(ctx, databaseURL, postgres.Options{Name: "foundry doctor", MaxConns: 1})
	if err != nil {
		return false, err
	}
	defer pool.Close()
	if err := postgres.CheckSchema(ctx, pool); err != nil {
		return false, err
	}
	return reconcile.NewStore(pool).Adopt(ctx)
}
