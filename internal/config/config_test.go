package config

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"foundry/internal/errs"
)

const dbURL = "postgres://u:hunter2@db/foundry"

func TestDefaults(t *testing.T) {
	t.Parallel()
	common := Common{LogLevel{zerolog.InfoLevel}}
	database := Database{URL: dbURL, Direct: dbURL}
	drain := Drain{20 * time.Second}
	sandbox := Sandbox{Kind: SandboxLocal, StateDir: ".foundry", Keep: KeepNever}
	lease := Lease(30 * time.Second)
	environ := map[string]string{"DATABASE_URL": dbURL, "PORT": "", "UNRELATED": "x"}

	serve, err := load[Serve](environ)
	if want := (Serve{Common: common, Database: database, Drain: drain, Sandbox: sandbox, Port: 8080, Reveal: Reveal{On}, Retention: Retention{30}, QueuedMax: 10_000, Reads: 200, Writes: 50, Environment: "production", Lease: lease}); err != nil || serve != want {
		t.Errorf("Serve: %v %s", err, cmp.Diff(want, serve))
	}
	worker, err := load[Worker](environ)
	if want := (Worker{Common: common, Database: database, Sandbox: sandbox, Port: 8081, Slots: 32, Lease: lease, QueuedMax: 10_000}); err != nil || worker != want {
		t.Errorf("Worker: %v %s", err, cmp.Diff(want, worker))
	}
	dev, err := load[Dev](nil)
	if want := (Dev{Common: common, Drain: drain, Sandbox: sandbox, Slots: 32, Reveal: Reveal{On}, Retention: Retention{30}, QueuedMax: 10_000, Lease: lease / 3}); err != nil || dev != want {
		t.Errorf("Dev: %v %s", err, cmp.Diff(want, dev))
	}
}

func TestEverythingSet(t *testing.T) {
	t.Parallel()
	environ := map[string]string{
		"DATABASE_URL": dbURL, "DATABASE_URL_DIRECT": "postgresql://direct/x", "LOG_LEVEL": "debug",
		"FOUNDRY_SANDBOX": "local", "FOUNDRY_LOCAL_SANDBOX": "process", "FOUNDRY_STATE_DIR": "/s",
		"FOUNDRY_KEEP_SANDBOX": "on-failure", "FOUNDRY_DRAIN_TIMEOUT": "3s", "FOUNDRY_WORKER_SLOTS": "4", "FOUNDRY_PG_BIN": "/pg/bin",
		"FOUNDRY_PUBLIC_URL": "https://foundry.example/", "FOUNDRY_ENCRYPTION_KEYS": "k:AAAA", "FOUNDRY_REVEAL": "off",
		"FOUNDRY_WORKER_LEASE": "2s", "FOUNDRY_RETENTION_DAYS": "0", "FOUNDRY_QUEUED_MAX": "7",
	}
	want := Dev{
		QueuedMax: 7,
		Common:    Common{LogLevel{zerolog.DebugLevel}}, Drain: Drain{3 * time.Second},
		Sandbox: Sandbox{Kind: SandboxLocal, Local: LocalProcess, StateDir: "/s", Keep: KeepOnFailure},
		URL:     dbURL, Direct: "postgresql://direct/x", PGBin: "/pg/bin",
		PublicURL: "https://foundry.example", Slots: 4, Secrets: Secrets{Keys: "k:AAAA"}, Reveal: Reveal{Off}, Lease: Lease(2 * time.Second),
	}
	got, err := load[Dev](environ)
	if err != nil || got != want {
		t.Errorf("%v %s", err, cmp.Diff(want, got))
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	tests := []struct{ variable, value, want string }{
		{"DATABASE_URL", "", "DATABASE_URL is not set."},
		{"DATABASE_URL", "mysql://u:hunter2@db", "DATABASE_URL must be a URL that begins with postgres://."},
		{"DATABASE_URL", "postgres://u:hunter2@db:port/x", "DATABASE_URL must be a URL that begins with postgres://."},
		{"DATABASE_URL_DIRECT", "hunter2", "DATABASE_URL_DIRECT must be a URL that begins with postgres://."},
		{"PORT", "65536", "PORT must be a port between 0 and 65535."},
		{"PORT", "80x", "PORT must be a port between 0 and 65535."},
		{"LOG_LEVEL", "loud", "LOG_LEVEL must be trace, debug, info, warn or error."},
		{"FOUNDRY_SANDBOX", "daytona", "FOUNDRY_SANDBOX must be local."},
		{"FOUNDRY_LOCAL_SANDBOX", "docker", "FOUNDRY_LOCAL_SANDBOX must be bwrap or process."},
		{"FOUNDRY_KEEP_SANDBOX", "sometimes", "FOUNDRY_KEEP_SANDBOX must be never, on-failure or always."},
		{"FOUNDRY_DEBUG_ADDR", "127.0.0.1", "FOUNDRY_DEBUG_ADDR must be a loopback address and a port, such as 127.0.0.1:6060."},
		{"FOUNDRY_DEBUG_ADDR", "0.0.0.0:6060", "FOUNDRY_DEBUG_ADDR must be a loopback address and a port, such as 127.0.0.1:6060."},
		{"FOUNDRY_DEBUG_ADDR", ":6060", "FOUNDRY_DEBUG_ADDR must be a loopback address and a port, such as 127.0.0.1:6060."},
		{"FOUNDRY_WORKER_SLOTS", "many", "FOUNDRY_WORKER_SLOTS must be a whole number between 1 and 1000."},
		{"FOUNDRY_WORKER_SLOTS", "0", "FOUNDRY_WORKER_SLOTS must be a whole number between 1 and 1000."},
		{"FOUNDRY_WORKER_LEASE", "500ms", "FOUNDRY_WORKER_LEASE must be a duration between 1s and 10m."},
		{"FOUNDRY_WORKER_LEASE", "11m", "FOUNDRY_WORKER_LEASE must be a duration between 1s and 10m."},
		{"FOUNDRY_WORKER_SLOTS", "1001", "FOUNDRY_WORKER_SLOTS must be a whole number between 1 and 1000."},
	}
	for _, tt := range tests {
		t.Run(tt.variable+"="+tt.value, func(t *testing.T) {
			t.Parallel()
			environ := map[string]string{"DATABASE_URL": dbURL}
			environ[tt.variable] = tt.value
			_, err := load[Worker](environ)
			if err == nil || err.Error() != tt.want || !errs.Is(err, errs.Validation) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	t.Run("drain", func(t *testing.T) {
		t.Parallel()
		for value, want := range map[string]string{
			"10": "FOUNDRY_DRAIN_TIMEOUT must be a duration such as 30s or 5m.",
			"1h": "FOUNDRY_DRAIN_TIMEOUT must be between 0s and 10m.",
		} {
			if _, err := load[Serve](map[string]string{"DATABASE_URL": dbURL, "FOUNDRY_DRAIN_TIMEOUT": value}); err == nil || err.Error() != want {
				t.Errorf("%s: %v", value, err)
			}
		}
	})
	t.Run("public URL", func(t *testing.T) {
		t.Parallel()
		for _, value := range []string{"foundry.example", "ftp://x", "http://", "http://x/?a=b"} {
			_, err := load[Dev](map[string]string{"FOUNDRY_PUBLIC_URL": value})
			if err == nil || !strings.HasPrefix(err.Error(), "FOUNDRY_PUBLIC_URL must be") {
				t.Errorf("%s: %v", value, err)
			}
		}
	})
	t.Run("rates", func(t *testing.T) {
		t.Parallel()
		for _, value := range []string{"0", "-1", "1000001", "fast"} {
			_, err := load[Serve](map[string]string{"DATABASE_URL": dbURL, "FOUNDRY_RATE_WRITES": value})
			if want := "FOUNDRY_RATE_WRITES must be a whole number between 1 and 1000000."; err == nil || err.Error() != want {
				t.Errorf("%s: %v", value, err)
			}
		}
		c, err := load[Serve](map[string]string{"DATABASE_URL": dbURL, "FOUNDRY_RATE_READS": "1000", "FOUNDRY_DEBUG_ADDR": "[::1]:0"})
		if err != nil || c.Reads != 1000 || c.Writes != 50 || c.Debug != "[::1]:0" {
			t.Errorf("%+v, %v", c, err)
		}
	})
	t.Run("retention", func(t *testing.T) {
		t.Parallel()
		for _, value := range []string{"-1", "3651", "30d"} {
			_, err := load[Serve](map[string]string{"DATABASE_URL": dbURL, "FOUNDRY_RETENTION_DAYS": value})
			if want := "FOUNDRY_RETENTION_DAYS must be a whole number of days between 0 and 3650."; err == nil || err.Error() != want {
				t.Errorf("%s: %v", value, err)
			}
		}
	})
	t.Run("environment", func(t *testing.T) {
		t.Parallel()
		for _, value := range []string{"two words", "a/b", strings.Repeat("n", 41)} {
			_, err := load[Serve](map[string]string{"DATABASE_URL": dbURL, "FOUNDRY_ENVIRONMENT": value})
			if want := "FOUNDRY_ENVIRONMENT must be a word of at most 40 letters, digits, dots, dashes and underscores."; err == nil || err.Error() != want {
				t.Errorf("%s: %v", value, err)
			}
		}
	})
	t.Run("reveal", func(t *testing.T) {
		t.Parallel()
		_, err := load[Dev](map[string]string{"FOUNDRY_REVEAL": "no"})
		if err == nil || err.Error() != "FOUNDRY_REVEAL must be on or off." {
			t.Errorf("got %v", err)
		}
	})
}

func TestMistakesComeAtOnce(t *testing.T) {
	t.Parallel()
	_, err := load[Serve](map[string]string{"PORT": "x", "FOUNDRY_DRAIN_TIMEOUT": "1h", "FOUNDRY_QUEUED_MAX": "0"})
	want := "DATABASE_URL is not set.\nPORT must be a port between 0 and 65535.\n" +
		"FOUNDRY_QUEUED_MAX must be a whole number between 1 and 100000.\nFOUNDRY_DRAIN_TIMEOUT must be between 0s and 10m."
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestLoadReadsTheEnvironment(t *testing.T) {
	t.Setenv("DATABASE_URL", dbURL)
	t.Setenv("PORT", "1234")
	t.Setenv("FOUNDRY_ENVIRONMENT", "staging-2")
	got, err := Load[Serve]()
	if err != nil || got.Port != 1234 || got.Environment != "staging-2" {
		t.Errorf("Load: %+v, %v", got, err)
	}
}

func TestDatabaseURLIsNeverPrinted(t *testing.T) {
	t.Parallel()
	c := Worker{Database: Database{URL: dbURL, Direct: dbURL}}
	encoded, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		fmt.Sprint(c), fmt.Sprintf("%+v %#v", c, c), fmt.Sprintf("%s %q %x %d", c.Database.URL, c.Database.URL, c.Database.URL, c.Database.URL),
		c.Database.URL.String(), c.Database.URL.GoString(), string(encoded),
	} {
		if strings.Contains(text, "hunter2") || strings.Contains(text, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("the password is in %s", text)
		}
	}
}

func TestLogger(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	log := newLogger(&out, LogLevel{zerolog.InfoLevel})
	log.Debug().Msg("not this")
	log.Info().Str("execution_id", "e1").Msg("started")
	var record struct {
		Level, Message string
		Time           time.Time
		ExecutionID    string `json:"execution_id"`
	}
	if err := json.Unmarshal([]byte(out.String()), &record); err != nil {
		t.Fatalf("%v in %q", err, out.String())
	}
	if record.Level != "info" || record.Message != "started" || record.ExecutionID != "e1" || record.Time.IsZero() {
		t.Errorf("record %+v", record)
	}
}

func TestQueuedMax(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"0", "100001", "many"} {
		_, err := load[Serve](map[string]string{"DATABASE_URL": dbURL, "FOUNDRY_QUEUED_MAX": value})
		if want := "FOUNDRY_QUEUED_MAX must be a whole number between 1 and 100000."; err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", value, err, want)
		}
	}
}
