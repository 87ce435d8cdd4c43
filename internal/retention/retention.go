package retention

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"foundry/internal/errs"
	"foundry/internal/execution"
)

// Busy is the code of the refusal when another process purges.
const Busy errs.Code = "purge_running"

// Config is what a Purger needs.
type Config struct {
	DirectURL string // not through a transaction pooler
	Log       zerolog.Logger
	// Gentle rests after each batch of rows for as long as it took, so that what runs keeps half of the database.
	Gentle bool
}

// Purger takes away what is old. Safe for concurrent use: of several processes, one purges.
type Purger struct {
	Config
}

// New returns a purger. It connects when it purges.
func New(c Config) *Purger {
	return &Purger{c}
}

// Options say what may go.
type Options struct {
	// Days is how long history is kept after everything of its day has ended. 0 keeps all of it, unless Before is set.
	Days int
	// Before wins over Days: what had ended at that time may go. Not after the begin of yesterday.
	Before time.Time
	// DryRun only looks.
	DryRun bool
}

// Day is one UTC day of history.
type Day struct {
	Date       time.Time // midnight
	Executions int64     // that were deleted; of a dry run and of a day that is kept: that there are
	Bytes      int64     // of the tables of its events, logs and artifacts
	Keeper     *Keeper   // nil: nothing keeps it

	tables  []table
	started bool // its dropping was begun
}

// Keeper is the first execution that keeps a day.
type Keeper struct {
	ID     uuid.UUID
	Status execution.Status
	// EndedAt is nil while it lives. When it is before Report.Before, a sandbox that still exists is why the day is kept.
	EndedAt *time.Time
}

// Report is what a purge has done, or would do.
type Report struct {
	Before time.Time // what had not ended then stays; zero: no day was looked at
	Gone   []Day     // in order of time
	Kept   []Day     // that are old enough but for what keeps them
	Swept  []Sweep   // the other rows that were deleted; empty in a dry run
}

// Purge drops the days that may go and sweeps other rows. What it has done until an error is in the report all the same. The error
// has the code Busy when another process purges, and errs.Validation when Before is too late.
func (p *Purger) Purge(ctx context.Context, o Options) (Report, error) {
	s, err := open(ctx, p.DirectURL)
	if err != nil {
		return Report{}, err
	}
	defer s.close(ctx)
	now, err := s.now(ctx)
	if err != nil {
		return Report{}, err
	}
	var report Report
	if report.Before, err = o.before(now); err != nil {
		return Report{}, err
	}
	if !o.DryRun {
		if err := s.lock(ctx); err != nil {
			return Report{}, err
		}
	}
	if !report.Before.IsZero() {
		err = p.days(ctx, s, o, &report)
	}
	if !o.DryRun && ctx.Err() == nil {
		var swept error
		report.Swept, swept = s.sweep(ctx, now)
		err = errors.Join(err, swept)
	}
	return report, err
}

// before returns the time at which all that may go had ended, zero when nothing may.
func (o Options) before(now time.Time) (time.Time, error) {
	if o.Before.IsZero() {
		if o.Days <= 0 {
			return time.Time{}, nil
		}
		return now.AddDate(0, 0, -o.Days), nil
	}
	if latest := midnight(now).AddDate(0, 0, -1); o.Before.After(latest) {
		return time.Time{}, errs.E(errs.Validation, "Only what is before %s can be purged.", latest.Format(time.DateOnly))
	}
	return o.Before, nil
}

func midnight(t time.Time) time.Time {
	return t.UTC().Truncate(24 * time.Hour)
}

// days purges all days that lie before report.Before whole. A table that is pending stands in the way of the others, so its day comes first.
func (p *Purger) days(ctx context.Context, s *store, o Options, report *Report) error {
	days, err := s.days(ctx, report.Before)
	if err != nil {
		return err
	}
	slices.SortStableFunc(days, func(a, b *Day) int {
		switch {
		case a.started == b.started:
			return 0
		case a.started:
			return -1
		}
		return 1
	})
	var failures []error
	for _, day := range days {
		if err := p.day(ctx, s, o, report, day); err != nil {
			failures = append(failures, fmt.Errorf("purging %s: %w", day.Date.Format(time.DateOnly), err))
			if s.lost() {
				break
			}
		}
	}
	byDate := func(a, b Day) int { return a.Date.Compare(b.Date) }
	slices.SortFunc(report.Gone, byDate)
	slices.SortFunc(report.Kept, byDate)
	return errors.Join(failures...)
}

// day drops the tables of a day and deletes its executions, unless something keeps it.
func (p *Purger) day(ctx context.Context, s *store, o Options, report *Report, day *Day) error {
	keeper, err := s.keeper(ctx, day.Date, report.Before)
	if err != nil {
		return err
	}
	if day.Keeper = keeper; keeper != nil || o.DryRun {
		if day.Executions, err = s.count(ctx, day.Date); err != nil {
			return err
		}
	}
	switch {
	case keeper != nil && !day.started:
		report.Kept = append(report.Kept, *day)
		return nil
	case o.DryRun:
		report.Gone = append(report.Gone, *day)
		return nil
	}
	begin := time.Now()
	for _, t := range day.tables {
		if err := s.drop(ctx, t); err != nil {
			return err
		}
	}
	dropped := time.Since(begin)
	day.Executions, err = p.rows(ctx, s, day.Date, report.Before)
	report.Gone = append(report.Gone, *day)
	p.Log.Info().Str("day", day.Date.Format(time.DateOnly)).Int64("bytes", day.Bytes).Int64("executions", day.Executions).
		Dur("drop_ms", dropped).Dur("took_ms", time.Since(begin)).Msg("a day of history was dropped")
	return err
}

// rows deletes the executions of a day, batch by batch, and returns how many.
func (p *Purger) rows(ctx context.Context, s *store, date, before time.Time) (int64, error) {
	var deleted int64
	first, below := execution.DayIDs(date)
	for {
		begin := time.Now()
		n, last, err := s.deleteBatch(ctx, first, below, before)
		deleted += int64(n)
		if err != nil || n < batchSize {
			return deleted, err
		}
		first = last // which is gone: what is dead before it is not read again
		if !p.Gentle {
			continue
		}
		select {
		case <-ctx.Done():
			return deleted, ctx.Err()
		case <-time.After(time.Since(begin)):
		}
	}
}
