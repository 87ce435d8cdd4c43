// Package config reads the environment, which nothing else does. There is one struct per
// process; all mistakes are reported at once, each as a sentence that names its variable
// and never repeats a value that may be secret.
package config

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"foundry/internal/errs"
)

// Common is what every process reads.
type Common struct {
	LogLevel LogLevel `env:"LOG_LEVEL" envDefault:"info"`
}

// Database is how processes reach PostgreSQL.
type Database struct {
	URL DatabaseURL `env:"DATABASE_URL,required"`
	// Direct leads to the server without a transaction pooler: for LISTEN, advisory locks
	// and migrations. URL unless set.
	Direct DatabaseURL `env:"DATABASE_URL_DIRECT"`
}

// Sandbox is how a worker makes sandboxes.
type Sandbox struct {
	Kind SandboxKind `env:"FOUNDRY_SANDBOX" envDefault:"local"`
	// Local forces a level of the local sandbox. Empty: the strongest that works.
	Local LocalSandbox `env:"FOUNDRY_LOCAL_SANDBOX"`
	// StateDir is where local sandboxes live.
	StateDir string `env:"FOUNDRY_STATE_DIR" envDefault:".foundry"`
	// Keep says which sandboxes are kept after the end of their execution, where its workflow does not say.
	Keep Keep `env:"FOUNDRY_KEEP_SANDBOX" envDefault:"never"`
}

// Secrets is how a process opens secrets.
type Secrets struct {
	// Keys encrypt and decrypt. Empty: secrets cannot be set or read.
	Keys EncryptionKeys `env:"FOUNDRY_ENCRYPTION_KEYS"`
}

// Reveal says whether the API answers the values of secrets.
type Reveal struct {
	Switch Switch `env:"FOUNDRY_REVEAL" envDefault:"on"`
}

// Drain is how a process ends.
type Drain struct {
	// Timeout limits an orderly shutdown.
	Timeout time.Duration `env:"FOUNDRY_DRAIN_TIMEOUT" envDefault:"20s"`
}

// Retention is how long history is kept.
type Retention struct {
	// Days after everything of a day has ended, its history goes. 0: never.
	Days RetentionDays `env:"FOUNDRY_RETENTION_DAYS" envDefault:"30"`
}

// Serve is the configuration of the control plane.
type Serve struct {
	Common
	Database  Database
	Drain     Drain
	Sandbox   Sandbox // that of the workers, to look after what they leave
	Secrets   Secrets
	Reveal    Reveal
	Retention Retention
	Port      Port      `env:"PORT" envDefault:"8080"`
	PublicURL PublicURL `env:"FOUNDRY_PUBLIC_URL"`
	// QueuedMax is how many executions of a workflow may be queued, where the workflow does not say.
	QueuedMax QueuedMax `env:"FOUNDRY_QUEUED_MAX" envDefault:"10000"`
	// Reads and Writes are how many requests a second a principal may make of this process.
	Reads  RequestRate `env:"FOUNDRY_RATE_READS" envDefault:"200"`
	Writes RequestRate `env:"FOUNDRY_RATE_WRITES" envDefault:"50"`
	// Debug is where profiles are served. Empty: nowhere.
	Debug DebugAddress `env:"FOUNDRY_DEBUG_ADDR"`
	// Environment is the installation's name, which people are shown.
	Environment Environment `env:"FOUNDRY_ENVIRONMENT" envDefault:"production"`
	// Lease is that of the workers: the reaper waits for as long before it declares one gone.
	Lease Lease `env:"FOUNDRY_WORKER_LEASE" envDefault:"30s"`
}

// Worker is the configuration of a worker.
type Worker struct {
	Common
	Database Database
	Sandbox  Sandbox
	Secrets  Secrets
	Port     Port `env:"PORT" envDefault:"8081"`
	// Slots is how many executions the worker holds at most.
	Slots Slots `env:"FOUNDRY_WORKER_SLOTS" envDefault:"32"`
	Lease Lease `env:"FOUNDRY_WORKER_LEASE" envDefault:"30s"`
	// QueuedMax is as that of Serve, for the executions that nodes run.
	QueuedMax QueuedMax `env:"FOUNDRY_QUEUED_MAX" envDefault:"10000"`
	// Debug is where profiles are served. Empty: nowhere.
	Debug DebugAddress `env:"FOUNDRY_DEBUG_ADDR"`
}

// Dev is the configuration of a whole installation on one machine.
type Dev struct {
	Common
	Drain   Drain
	Sandbox Sandbox
	// Secrets are empty: the installation makes a key of its own.
	Secrets Secrets
	Reveal  Reveal
	// Retention is of `admin purge`, too.
	Retention Retention
	// URL is the database to use. Empty: a development server is found or fetched.
	URL    DatabaseURL `env:"DATABASE_URL"`
	Direct DatabaseURL `env:"DATABASE_URL_DIRECT"`
	// PGBin is a directory with initdb and postgres. Empty: search.
	PGBin     string    `env:"FOUNDRY_PG_BIN"`
	PublicURL PublicURL `env:"FOUNDRY_PUBLIC_URL"`
	Slots     Slots     `env:"FOUNDRY_WORKER_SLOTS" envDefault:"32"`
	// QueuedMax is how many executions of a workflow may be queued, where the workflow does not say.
	QueuedMax QueuedMax `env:"FOUNDRY_QUEUED_MAX" envDefault:"10000"`
	// Lease is short, so that whoever kills the worker does not wait for long.
	Lease Lease `env:"FOUNDRY_WORKER_LEASE" envDefault:"10s"`
}

// Migrate is the configuration of commands that only need the database.
type Migrate struct {
	Common
	Database Database
}

// Rekey is the configuration of `secrets rekey`.
type Rekey struct {
	Common
	Database Database
	Secrets  Secrets
}

// process is any of the structs above.
type process interface {
	Serve | Worker | Dev | Migrate | Rekey | Client
}

// Load reads the environment of this process. The error is an errs.Validation with one
// detail per mistake, whose pointer is the variable's name. A variable that is set to
// nothing counts as not set.
func Load[T process]() (T, error) {
	return load[T](env.ToMap(os.Environ()))
}

func load[T process](environ map[string]string) (T, error) {
	var c, zero T
	set := make(map[string]string, len(environ))
	for name, value := range environ {
		if value != "" {
			set[name] = value
		}
	}
	mistakes := describe(env.ParseWithOptions(&c, env.Options{Environment: set}), variables(reflect.TypeFor[T]()))
	mistakes = append(mistakes, finish(&c)...)
	if len(mistakes) == 0 {
		return c, nil
	}
	sentences := make([]string, len(mistakes))
	for i, m := range mistakes {
		sentences[i] = m.Detail
	}
	err := errs.E(errs.Validation, "%s", strings.Join(sentences, "\n"))
	err.Details = mistakes
	return zero, err
}

// finish fills in what depends on other variables and checks what a type cannot.
func finish(c any) []errs.Detail {
	switch c := c.(type) {
	case *Serve:
		c.Database.finish()
		return c.Drain.check()
	case *Worker:
		c.Database.finish()
	case *Dev:
		if c.Direct == "" {
			c.Direct = c.URL
		}
		return c.Drain.check()
	case *Rekey:
		c.Database.finish()
	case *Migrate:
		c.Database.finish()
	}
	return nil
}

func (d *Database) finish() {
	if d.Direct == "" {
		d.Direct = d.URL
	}
}

func (d Drain) check() []errs.Detail {
	if d.Timeout < 0 || d.Timeout > 10*time.Minute {
		return mistake("FOUNDRY_DRAIN_TIMEOUT", "must be between 0s and 10m")
	}
	return nil
}

func mistake(variable, what string) []errs.Detail {
	return []errs.Detail{{Pointer: variable, Detail: variable + " " + what + "."}}
}

// describe turns the library's errors into sentences.
func describe(err error, variables map[string]string) []errs.Detail {
	if err == nil {
		return nil
	}
	all, ok := errors.AsType[env.AggregateError](err)
	if !ok {
		return []errs.Detail{{Detail: "The environment cannot be read: " + err.Error() + "."}}
	}
	var mistakes []errs.Detail
	for _, err := range all.Errors {
		if missing, ok := errors.AsType[env.VarIsNotSetError](err); ok {
			mistakes = append(mistakes, mistake(missing.Key, "is not set")...)
			continue
		}
		if parse, ok := errors.AsType[env.ParseError](err); ok {
			mistakes = append(mistakes, mistake(variables[parse.Name], expectation(parse))...)
			continue
		}
		mistakes = append(mistakes, errs.Detail{Detail: "The environment cannot be read: " + err.Error() + "."})
	}
	return mistakes
}

// expectation says what a variable must be. Our own types say it themselves.
func expectation(e env.ParseError) string {
	if want, ok := errors.AsType[wants](e.Err); ok {
		return want.Error()
	}
	if e.Type == reflect.TypeFor[time.Duration]() {
		return "must be a duration such as 30s or 5m"
	}
	return "cannot be read: " + e.Err.Error()
}

// variables maps the names of fields to those of their variables.
func variables(t reflect.Type) map[string]string {
	names := map[string]string{}
	for _, field := range reflect.VisibleFields(t) {
		tag, _, _ := strings.Cut(field.Tag.Get("env"), ",")
		switch {
		case tag != "":
			names[field.Name] = tag
		case field.Type.Kind() == reflect.Struct && !field.Anonymous:
			for name, variable := range variables(field.Type) {
				names[name] = variable
			}
		}
	}
	return names
}

// wants is the error of a text that is not what the variable must be.
type wants string

// Error continues a sentence that begins with the variable's name.
func (w wants) Error() string { return string(w) }
