package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"foundry/internal/config"
	"foundry/internal/devstack"
	"foundry/internal/errs"
	"foundry/internal/fleet/process"
	"foundry/internal/postgres"
)

func (a *app) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the control plane: API, streams, control loops",
		Long: "Run the control plane on PORT (8080 unless set) and the database of DATABASE_URL, whose tables `foundry migrate`\n" +
			"makes. SIGTERM ends it once requests in flight are answered.",
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return unlessStopped(cmd.Context(), serve(cmd.Context()))
		},
	}
}

// unlessStopped leaves out errors that only say that the process was told to end while it started.
func unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx))) {
		return nil
	}
	return err
}

func serve(ctx context.Context) error {
	c, err := config.Load[config.Serve]()
	if err != nil {
		return err
	}
	keys, err := devstack.Keyring(c.Secrets)
	if err != nil {
		return err
	}
	log := config.NewLogger(os.Stdout, c.LogLevel)
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", ":"+strconv.Itoa(int(c.Port)))
	if err != nil {
		return errs.E(errs.Conflict, "Port %d cannot be listened on; set PORT to another.", c.Port).Because(err)
	}
	log.Info().Str("address", listener.Addr().String()).Str("version", version().Version).Msg("control plane starts")
	plane := controlPlane(c)
	plane.Listener, plane.Keys, plane.Log = listener, keys, log
	return devstack.WithDebug(ctx, c.Debug, log, plane.Run)
}

// controlPlane is what the environment says of one.
func controlPlane(c config.Serve) devstack.ControlPlane {
	return devstack.ControlPlane{
		DatabaseURL: string(c.Database.URL), DirectURL: string(c.Database.Direct), RevealOff: c.Reveal.Switch == config.Off, QueuedMax: int(c.QueuedMax),
		Version: version().Version, Environment: string(c.Environment), Drain: c.Drain.Timeout, PublicURL: string(c.PublicURL),
		Lease: time.Duration(c.Lease), Sandbox: c.Sandbox, RetentionDays: int(c.Retention.Days), Reads: int(c.Reads), Writes: int(c.Writes),
	}
}

func (a *app) workerCommand() *cobra.Command {
	var supervised bool
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Run a worker, which executes what is queued",
		Long: "Run a worker on the database of DATABASE_URL, with /healthz and /metrics on PORT (8081 unless set). SIGTERM makes it\n" +
			"give back what it holds and exit; commands that run go on, and the next worker follows them.",
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if supervised {
				var cancel context.CancelFunc
				ctx, cancel = process.WithParent(ctx, a.In)
				defer cancel()
			}
			return unlessStopped(ctx, work(ctx))
		},
	}
	cmd.Flags().BoolVar(&supervised, "supervised", false, "end when stdin ends")
	if err := cmd.Flags().MarkHidden("supervised"); err != nil {
		panic(err) // the flag is defined two lines above
	}
	return cmd
}

func work(ctx context.Context) error {
	c, err := config.Load[config.Worker]()
	if err != nil {
		return err
	}
	log := config.NewLogger(os.Stdout, c.LogLevel)
	return devstack.WithDebug(ctx, c.Debug, log, func(ctx context.Context) error {
		return devstack.RunWorker(ctx, c, log, version().Version)
	})
}

func (a *app) migrateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database of DATABASE_URL to this program's schema",
		Args:  takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load[config.Migrate]()
			if err != nil {
				return err
			}
			if err := postgres.Migrate(cmd.Context(), string(c.Database.Direct)); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]bool{"migrated": true})
			}
			fmt.Fprintln(a.Out, "The schema is up to date.")
			return nil
		},
	}
}
