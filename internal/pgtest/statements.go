package pgtest

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Statement is what a pool has sent.
type Statement struct {
	SQL  string
	Args []any
}

// Statements is a tracer (postgres.Options) that remembers every statement. The zero value is ready. Safe for
// concurrent use.
type Statements struct {
	mu   sync.Mutex
	sent []Statement
}

func (s *Statements) add(sql string, args []any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, Statement{sql, args})
}

// Count returns how many statements were sent that are the text, or the query of that name in db/queries.
func (s *Statements) Count(text string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, st := range s.sent {
		if st.is(text) {
			n++
		}
	}
	return n
}

// Last returns the newest query of a name in db/queries.
func (s *Statements) Last(t testing.TB, name string) Statement {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range slices.Backward(s.sent) {
		if st.is(name) {
			return st
		}
	}
	t.Fatalf("no %s was sent", name)
	return Statement{}
}

func (s Statement) is(text string) bool {
	return s.SQL == text || strings.HasPrefix(s.SQL, "-- name: "+text+" ")
}

// TraceQueryStart implements pgx.QueryTracer.
func (s *Statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	s.add(d.SQL, d.Args)
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (s *Statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TraceBatchStart implements pgx.BatchTracer.
func (s *Statements) TraceBatchStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
	for _, q := range d.Batch.QueuedQueries {
		s.add(q.SQL, q.Arguments)
	}
	return ctx
}

// TraceBatchQuery implements pgx.BatchTracer.
func (s *Statements) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements pgx.BatchTracer.
func (s *Statements) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// Plan is a node of a query's plan.
type Plan struct {
	Type     string `json:"Node Type"`
	Relation string `json:"Relation Name"`
	Index    string `json:"Index Name"`
	Plans    []Plan `json:"Plans"`
}

// Explain returns the plan of a statement with its arguments. generic takes the plan that a prepared
// statement may fall back to after its fifth use, which knows no argument.
func Explain(t testing.TB, pool *pgxpool.Pool, s Statement, generic bool) Plan {
	t.Helper()
	mode := "force_custom_plan"
	if generic {
		mode = "force_generic_plan"
	}
	var answer []byte
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), "SELECT set_config('plan_cache_mode', $1, true)", mode); err != nil {
			return err
		}
		// Only EXECUTE has a generic plan to show, and it takes no parameters, only constants.
		prepared, err := tx.Prepare(t.Context(), "explained", s.SQL)
		if err != nil {
			return err
		}
		constants := make([]string, len(s.Args))
		for i, arg := range s.Args {
			text, err := tx.Conn().TypeMap().Encode(prepared.ParamOIDs[i], pgx.TextFormatCode, arg, []byte{}) // nil is NULL, and not an empty text
			if err != nil {
				return err
			}
			constants[i] = "NULL"
			if text != nil {
				constants[i] = "'" + strings.ReplaceAll(string(text), "'", "''") + "'"
			}
		}
		execute := "EXPLAIN (FORMAT JSON) EXECUTE explained"
		if len(constants) > 0 {
			execute += "(" + strings.Join(constants, ", ") + ")"
		}
		err = tx.QueryRow(t.Context(), execute).Scan(&answer)
		return errors.Join(err, tx.Conn().Deallocate(t.Context(), "explained"))
	})
	if err != nil {
		t.Fatalf("explaining: %v", err)
	}
	var plans []struct{ Plan Plan }
	if err := json.Unmarshal(answer, &plans); err != nil || len(plans) != 1 {
		t.Fatalf("a plan that cannot be read: %v\n%s", err, answer)
	}
	return plans[0].Plan
}

// Scans lists, in the plan's order, how each table is read: its name and then the index, or the type of the scan.
func (p Plan) Scans() []string {
	var scans []string
	switch {
	case p.Index != "" && p.Relation != "":
		scans = append(scans, p.Relation+" "+p.Index)
	case p.Index != "": // a bitmap's part, below the scan that names the table
		scans = append(scans, p.Index)
	case p.Relation != "" && strings.Contains(p.Type, "Scan"):
		scans = append(scans, p.Relation+" "+p.Type)
	}
	for _, child := range p.Plans {
		scans = append(scans, child.Scans()...)
	}
	return scans
}
