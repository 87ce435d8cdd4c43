package execution_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/errs"
	"foundry/internal/execution"
	"foundry/internal/pgtest"
)

// insert writes executions of a workflow, in order of id, spread over the statuses given.
func insert(t *testing.T, pool *pgxpool.Pool, org, workflow uuid.UUID, n int, statuses ...execution.Status) {
	t.Helper()
	var words []string
	for _, s := range statuses {
		words = append(words, string(s))
	}
	pgtest.Exec(t, pool, `
WITH x AS (
    INSERT INTO executions (id, organization_id, workflow_id, workflow_version, number, status, source, queued_at, queue_deadline_at, finished_at)
    SELECT ('019a0000' || lpad(to_hex(w.last_number + n), 8, '0') || substr(md5(random()::text), 17))::uuid, $1, $2, 1, w.last_number + n,
        s, 'api', now(), now(), CASE WHEN s IN ('completed', 'failed', 'canceled', 'timed_out') THEN now() END
    FROM workflows w, generate_series(1, $3::int) AS n, LATERAL (SELECT ($4::text[])[1 + n % cardinality($4::text[])] AS s) AS s WHERE w.id = $2
    RETURNING id
), d AS (
    INSERT INTO execution_data (execution_id, inputs, error) SELECT id, '{}', '{"code": "c", "message": "m"}' FROM x
)
UPDATE workflows SET last_number = last_number + $3::int WHERE id = $2`, org, workflow, n, words)
}

func TestList(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	store := execution.NewStore(pool)
	org, workflow := pgtest.Workflow(t, pool)
	other, theirs := pgtest.Workflow(t, pool)
	insert(t, pool, org, workflow, 9, execution.Completed, execution.Failed, execution.Queued)
	insert(t, pool, other, theirs, 3, execution.Completed)

	list := func(p execution.ListParams) (numbers []int64) {
		t.Helper()
		p.OrganizationID = org
		page, err := store.List(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range page {
			if x.WorkflowID != workflow || x.Inputs != nil || x.Failure == nil || x.Failure.Code != "c" {
				t.Errorf("execution %+v", x)
			}
			numbers = append(numbers, x.Number)
		}
		return numbers
	}
	all, err := store.List(t.Context(), execution.ListParams{OrganizationID: org, Limit: 100})
	if err != nil || len(all) != 9 {
		t.Fatalf("%d executions, %v", len(all), err)
	}
	for name, c := range map[string]struct {
		p    execution.ListParams
		want []int64
	}{
		"newest first":              {execution.ListParams{Limit: 100}, []int64{9, 8, 7, 6, 5, 4, 3, 2, 1}},
		"limit":                     {execution.ListParams{Limit: 2}, []int64{9, 8}},
		"next page":                 {execution.ListParams{Limit: 2, Before: &all[1].ID}, []int64{7, 6}},
		"after the last":            {execution.ListParams{Limit: 2, Before: &all[8].ID}, nil},
		"a status":                  {execution.ListParams{Limit: 100, Statuses: []execution.Status{execution.Failed}}, []int64{7, 4, 1}},
		"two statuses and a cursor": {execution.ListParams{Limit: 3, Statuses: []execution.Status{execution.Failed, execution.Queued}, Before: &all[1].ID}, []int64{7, 5, 4}},
		"a workflow":                {execution.ListParams{Limit: 1, WorkflowID: &workflow}, []int64{9}},
		"a workflow of others":      {execution.ListParams{Limit: 1, WorkflowID: &theirs}, nil},
	} {
		if got := list(c.p); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if _, err := store.Get(t.Context(), other, all[0].ID); !errs.Is(err, errs.NotFound) {
		t.Errorf("another organization reads it: %v", err)
	}

	heads, err := store.Heads(t.Context(), []uuid.UUID{all[0].ID, all[1].ID, all[2].ID, uuid.New()})
	if err != nil || len(heads) != 3 || heads[all[0].ID].Finished == all[0].FinishedAt.IsZero() {
		t.Errorf("heads %v, %v", heads, err)
	}
	summaries, err := store.Summaries(t.Context(), []uuid.UUID{all[0].ID, uuid.New()})
	if err != nil || len(summaries) != 1 || summaries[0].OrganizationID != org || summaries[0].Execution.Number != 9 {
		t.Errorf("summaries %+v, %v", summaries, err)
	}
}
