package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"foundry/internal/config"
	"foundry/internal/retention"
)

func (a *app) adminPurgeCommand() *cobra.Command {
	var before string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "purge",
		Short: "Take old history away, straight on the database",
		Long: "Do at once what `foundry serve` does hourly: drop the history of days on which everything had ended FOUNDRY_RETENTION_DAYS ago,\n" +
			"delete the executions of those days, and sweep other rows whose time has passed. No server is needed, so it works when none can\n" +
			"start; what runs goes on. A day is kept, whole, while one of its executions has not ended or its sandbox is needed yet. The database\n" +
			"is that of DATABASE_URL_DIRECT, else of DATABASE_URL, else of the `foundry dev` in this folder or above it.",
		Example: "foundry admin purge --dry-run\nfoundry admin purge --before 2027-01-31",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := retention.Options{DryRun: dryRun}
			if before != "" {
				day, err := time.Parse(time.DateOnly, before)
				if err != nil {
					return usage("%q is not a date such as 2027-01-31.", before)
				}
				o.Before = day
			}
			return a.adminPurge(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&before, "before", "", "take away the days before this UTC date, such as 2027-01-31, on which everything had ended by then")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would go")
	return cmd
}

func (a *app) adminPurge(ctx context.Context, o retention.Options) error {
	c, err := config.Load[config.Dev]() // its DATABASE_URL may be absent
	if err != nil {
		return err
	}
	if o.Days = int(c.Retention.Days); o.Days == 0 && o.Before.IsZero() {
		return usage("FOUNDRY_RETENTION_DAYS is 0, so nothing is too old; say --before.")
	}
	database := string(c.Direct)
	if database == "" {
		if database, _, err = installation(); err != nil {
			return err
		}
	}
	return a.purgeOn(ctx, database, o)
}

// purgeOn purges a database and prints what was done.
func (a *app) purgeOn(ctx context.Context, database string, o retention.Options) error {
	report, err := retention.New(retention.Config{DirectURL: database, Log: zerolog.Nop()}).Purge(ctx, o)
	if report.Before.IsZero() {
		return err
	}
	// What was done until an error is worth knowing.
	if printed := a.printPurge(&report, o.DryRun); printed != nil {
		return cmp.Or(err, printed)
	}
	return err
}

// purgeJSON is the answer of `admin purge --json`.
type purgeJSON struct {
	Before time.Time        `json:"before"`
	DryRun bool             `json:"dry_run"`
	Gone   []purgedDay      `json:"gone"`
	Kept   []purgedDay      `json:"kept"`
	Swept  map[string]int64 `json:"swept"` // rows, by kind
}

type purgedDay struct {
	Day        string     `json:"day"`
	Executions int64      `json:"executions"`
	Bytes      int64      `json:"bytes"`
	KeptBy     *uuid.UUID `json:"kept_by,omitempty"` // the first execution that keeps the day
	Reason     string     `json:"reason,omitempty"`
}

func (a *app) printPurge(r *retention.Report, dryRun bool) error {
	answer := purgeJSON{Before: r.Before.UTC(), DryRun: dryRun, Gone: purgedDays(r.Gone, r.Before), Kept: purgedDays(r.Kept, r.Before), Swept: map[string]int64{}}
	var swept []string
	for _, s := range r.Swept {
		answer.Swept[s.Kind] = s.Rows
		swept = append(swept, fmt.Sprintf("%s %d", s.Kind, s.Rows))
	}
	if a.json {
		return a.printJSON(answer)
	}
	if len(answer.Gone)+len(answer.Kept) == 0 {
		fmt.Fprintln(a.Out, "No day of history is old enough.")
	} else {
		table := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "DAY\tEXECUTIONS\tMIB\tWHAT")
		what := "dropped"
		if dryRun {
			what = "would be dropped"
		}
		for _, d := range answer.Gone {
			fmt.Fprintf(table, "%s\t%d\t%.1f\t%s\n", d.Day, d.Executions, mebibytes(d.Bytes), what)
		}
		for _, d := range answer.Kept {
			fmt.Fprintf(table, "%s\t%d\t%.1f\tkept: %s\n", d.Day, d.Executions, mebibytes(d.Bytes), d.Reason)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	if len(swept) > 0 {
		fmt.Fprintf(a.Out, "Other rows deleted: %s.\n", strings.Join(swept, ", "))
	}
	return nil
}

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }

func purgedDays(days []retention.Day, before time.Time) []purgedDay {
	list := make([]purgedDay, 0, len(days))
	for i := range days {
		d := &days[i]
		p := purgedDay{Day: d.Date.Format(time.DateOnly), Executions: d.Executions, Bytes: d.Bytes}
		if k := d.Keeper; k != nil {
			p.KeptBy, p.Reason = &k.ID, keptBecause(k, before)
		}
		list = append(list, p)
	}
	return list
}

func keptBecause(k *retention.Keeper, before time.Time) string {
	switch {
	case k.EndedAt == nil:
		return fmt.Sprintf("execution %s is %s", k.ID, k.Status)
	case k.EndedAt.Before(before):
		return fmt.Sprintf("the sandbox of execution %s is needed yet", k.ID)
	default:
		return fmt.Sprintf("execution %s ended only %s", k.ID, k.EndedAt.UTC().Format(time.DateOnly))
	}
}
