package execution_test

import (
	"crypto/md5"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"foundry/internal/execution"
	"foundry/internal/pgtest"
	"foundry/internal/postgres"
)

// history writes executions of three workflows over time, one a millisecond, most of them completed and asked for by ci. One in
// twenty is of the second workflow, and every other one of the third; one in 21 is run by the first execution. Numbers count all of them.
func history(t testing.TB, pool *pgxpool.Pool, org, workflow uuid.UUID, n int) (rare uuid.UUID) {
	t.Helper()
	rare, third := uuid.New(), uuid.New()
	for slug, id := range map[string]uuid.UUID{"rare": rare, "third": third} {
		pgtest.Exec(t, pool, "INSERT INTO workflows (id, organization_id, slug, name, latest_version) VALUES ($1, $2, $3, 'Name', 1)", id, org, slug)
		pgtest.Exec(t, pool, "INSERT INTO workflow_versions (workflow_id, version, source) VALUES ($1, 1, 'name: name')", id)
	}
	const batch = 2500 // each below the statement timeout
	for from := 0; from < n; from += batch {
		pgtest.Exec(t, pool, `
WITH x AS (
    INSERT INTO executions (id, organization_id, workflow_id, workflow_version, number, status, source, actor, queued_at, queue_deadline_at, finished_at,
        parent_execution_id, parent_node_run_id)
    SELECT (lpad(to_hex(1750000000000 + n), 12, '0') || '70008000' || substr(md5($1::uuid::text || n), 21))::uuid, $1::uuid,
        CASE WHEN n % 20 = 7 THEN $3::uuid WHEN n % 2 = 0 THEN $6::uuid ELSE $2::uuid END, 1, n + 1, s,
        CASE WHEN n % 1000 = 3 THEN 'webhook' WHEN n % 5 = 0 THEN 'schedule' ELSE 'api' END,
        CASE WHEN n % 500 = 9 THEN 'ann' WHEN n % 3 = 0 THEN 'cron' ELSE 'ci' END, now(), now(), CASE WHEN s NOT IN ('queued', 'running') THEN now() END,
        CASE WHEN n % 21 = 3 THEN $7::uuid END, CASE WHEN n % 21 = 3 THEN gen_random_uuid() END
    FROM generate_series($4::int, $5::int - 1) AS n, LATERAL (SELECT CASE
        WHEN n % 10000 = 1 THEN 'queued' WHEN n % 10000 = 2 THEN 'running' WHEN n % 1000 = 4 THEN 'timed_out'
        WHEN n % 100 = 5 THEN 'canceled' WHEN n % 20 = 6 THEN 'failed' ELSE 'completed' END AS s) AS s
    RETURNING id
)
INSERT INTO execution_data (execution_id, inputs) SELECT id, '{}' FROM x`, org, workflow, rare, from, min(n, from+batch), third, firstOf(org))
	}
	return rare
}

// firstOf is the id of the first execution of a history.
func firstOf(org uuid.UUID) uuid.UUID {
	sum := fmt.Sprintf("%x", md5.Sum([]byte(org.String()+"0")))
	return uuid.MustParse(fmt.Sprintf("%012x70008000%s", 1750000000000, sum[20:]))
}

type listCase struct {
	p            execution.ListParams
	query, index string
}

// listCases has each family of filters, with what is common, rare and never there.
func listCases(org, workflow, rare uuid.UUID) map[string]listCase {
	statuses := func(s ...execution.Status) []execution.Status { return s }
	sources := func(s ...execution.Source) []execution.Source { return s }
	after, before := time.UnixMilli(1750000000000+1000), time.UnixMilli(1750000000000+15000)
	all, one := "ExecutionList", "ExecutionListOfWorkflow"
	actor, oneActor, children := "ExecutionListByActor", "ExecutionListOfWorkflowByActor", "ExecutionListOfParent"
	cases := map[string]listCase{
		"all":                            {execution.ListParams{}, all, "executions_organization_set"},
		"a window of time":               {execution.ListParams{CreatedAfter: &after, CreatedBefore: &before}, all, "executions_organization_set"},
		"a workflow":                     {execution.ListParams{WorkflowID: &workflow}, one, "executions_workflow_set"},
		"a rare workflow":                {execution.ListParams{WorkflowID: &rare}, one, "executions_workflow_set"},
		"a rare workflow, old":           {execution.ListParams{WorkflowID: &rare, CreatedBefore: &before}, one, "executions_workflow_set"},
		"a common status":                {execution.ListParams{Statuses: statuses(execution.Completed)}, all, "executions_organization_set"},
		"a rare status":                  {execution.ListParams{Statuses: statuses(execution.Queued)}, all, "executions_organization_set"},
		"a status that none has":         {execution.ListParams{Statuses: statuses(execution.Waiting)}, all, "executions_organization_set"},
		"what is alive":                  {execution.ListParams{Statuses: statuses(execution.Queued, execution.Running, execution.Waiting)}, all, "executions_organization_set"},
		"what went wrong":                {execution.ListParams{Statuses: statuses(execution.Failed, execution.TimedOut, execution.Canceled)}, all, "executions_organization_set"},
		"a common source":                {execution.ListParams{Sources: sources(execution.FromAPI)}, all, "executions_organization_set"},
		"a rare source":                  {execution.ListParams{Sources: sources(execution.FromWebhook)}, all, "executions_organization_set"},
		"a source that none has":         {execution.ListParams{Sources: sources(execution.FromUI)}, all, "executions_organization_set"},
		"sources and statuses":           {execution.ListParams{Sources: sources(execution.FromWebhook, execution.FromSchedule), Statuses: statuses(execution.Failed, execution.Queued)}, all, "executions_organization_set"},
		"a rare source that failed":      {execution.ListParams{Sources: sources(execution.FromWebhook), Statuses: statuses(execution.TimedOut)}, all, "executions_organization_set"},
		"every source and status":        {execution.ListParams{Sources: execution.Sources(), Statuses: execution.Statuses()}, all, "executions_organization_set"},
		"a workflow's rare status":       {execution.ListParams{WorkflowID: &workflow, Statuses: statuses(execution.Queued)}, one, "executions_workflow_set"},
		"a rare workflow's statuses":     {execution.ListParams{WorkflowID: &rare, Statuses: statuses(execution.Completed, execution.Failed)}, one, "executions_workflow_set"},
		"a workflow's source":            {execution.ListParams{WorkflowID: &workflow, Sources: sources(execution.FromWebhook)}, one, "executions_workflow_set"},
		"a workflow's set in a window":   {execution.ListParams{WorkflowID: &workflow, Sources: sources(execution.FromSchedule), Statuses: statuses(execution.Completed), CreatedAfter: &after, CreatedBefore: &before}, one, "executions_workflow_set"},
		"a common actor":                 {execution.ListParams{Actor: "ci"}, actor, "executions_actor_set"},
		"a rare actor":                   {execution.ListParams{Actor: "ann"}, actor, "executions_actor_set"},
		"an actor that is nobody":        {execution.ListParams{Actor: "bob"}, actor, "executions_actor_set"},
		"a common actor's rare status":   {execution.ListParams{Actor: "ci", Statuses: statuses(execution.Running)}, actor, "executions_actor_set"},
		"a common actor's absent source": {execution.ListParams{Actor: "ci", Sources: sources(execution.FromUI)}, actor, "executions_actor_set"},
		"an actor's window of time":      {execution.ListParams{Actor: "ci", CreatedAfter: &after, CreatedBefore: &before}, actor, "executions_actor_set"},
		"an actor's workflow":            {execution.ListParams{Actor: "ci", WorkflowID: &workflow}, oneActor, "executions_workflow_actor_set"},
		"an actor's rare workflow":       {execution.ListParams{Actor: "ci", WorkflowID: &rare}, oneActor, "executions_workflow_actor_set"},
		"a rare actor's workflow":        {execution.ListParams{Actor: "ann", WorkflowID: &workflow}, oneActor, "executions_workflow_actor_set"},
		"a rare actor's rare workflow":   {execution.ListParams{Actor: "ann", WorkflowID: &rare}, oneActor, "executions_workflow_actor_set"},
		"children":                       {execution.ListParams{ParentID: new(firstOf(org))}, children, "executions_children"},
		"children of none":               {execution.ListParams{ParentID: new(uuid.Max)}, children, "executions_children"},
		"children that failed":           {execution.ListParams{ParentID: new(firstOf(org)), Statuses: statuses(execution.Failed, execution.TimedOut)}, children, "executions_children"},
		"children of a workflow":         {execution.ListParams{ParentID: new(firstOf(org)), WorkflowID: &workflow, Actor: "ci", CreatedAfter: &after}, children, "executions_children"},
		"everything at once": {execution.ListParams{
			Actor: "ci", WorkflowID: &workflow, Sources: sources(execution.FromAPI), Statuses: statuses(execution.Failed, execution.Running),
			CreatedAfter: &after, CreatedBefore: &before,
		}, oneActor, "executions_workflow_actor_set"},
	}
	maps.Copy(cases, combinations(workflow, after, before))
	return cases
}

// combinations has each way to set some of the filters and leave the others out.
func combinations(workflow uuid.UUID, after, before time.Time) map[string]listCase {
	cases := map[string]listCase{}
	for bits := range 1 << 5 {
		has := func(bit int) bool { return bits&(1<<bit) != 0 }
		c := listCase{query: "ExecutionList", index: "executions_organization_set"}
		var name string
		if has(0) {
			name, c.p.Statuses = name+" status", []execution.Status{execution.Failed, execution.Queued}
		}
		if has(1) {
			name, c.p.Sources = name+" source", []execution.Source{execution.FromSchedule, execution.FromWebhook}
		}
		if has(2) {
			name, c.p.Actor = name+" actor", "cron"
			c.query, c.index = "ExecutionListByActor", "executions_actor_set"
		}
		if has(3) {
			name, c.p.WorkflowID = name+" workflow", &workflow
			c.query = strings.Replace(c.query, "ExecutionList", "ExecutionListOfWorkflow", 1)
			c.index = strings.Replace(strings.Replace(c.index, "organization", "workflow", 1), "executions_actor", "executions_workflow_actor", 1)
		}
		if has(4) {
			name, c.p.CreatedAfter, c.p.CreatedBefore = name+" window", &after, &before
		}
		cases["combination:"+name] = c
	}
	return cases
}

// TestListPlans holds, for each family of filters, that a page's ids come from its one index and each branch ends with the page: nothing is
// read to be sorted, and nothing is read whole. It holds for the plan that knows the arguments and for the one that does not, which Postgres
// may choose from the sixth time on.
func TestListPlans(t *testing.T) {
	t.Parallel()
	statements := new(pgtest.Statements)
	pool := pgtest.Open(t, pgtest.Database(t), postgres.Options{Tracer: statements, MaxConns: 1})
	store := execution.NewStore(pool)
	org, workflow := pgtest.Workflow(t, pool)
	rare := history(t, pool, org, workflow, 10000)
	other, theirs := pgtest.Workflow(t, pool)
	history(t, pool, other, theirs, 10000)
	pgtest.Exec(t, pool, "VACUUM (ANALYZE) executions")
	pgtest.Exec(t, pool, "ANALYZE")
	// At 10,000 rows a bitmap and a sort may look cheaper than they are at the size that matters. The pool has one connection.
	pgtest.Exec(t, pool, "SET enable_bitmapscan = off")
	for name, c := range listCases(org, workflow, rare) {
		c.p.OrganizationID, c.p.Limit = org, 51
		if _, err := store.List(t.Context(), c.p); err != nil {
			t.Fatal(err)
		}
		for _, generic := range []bool{false, true} {
			plan := pgtest.Explain(t, pool, statements.Last(t, c.query), generic)
			if problem := unbounded(plan, pgtest.Plan{}, c.index); problem != "" {
				t.Errorf("%s (generic: %t) %s: %q", name, generic, problem, plan.Scans())
			}
			if scans := plan.Scans(); !slices.ContainsFunc(scans, func(s string) bool { return strings.HasSuffix(s, " "+c.index) }) {
				t.Errorf("%s (generic: %t) is read by %q, want %s", name, generic, scans, c.index)
			}
		}
	}
}

// unbounded says what in a plan reads more than a page, or "".
func unbounded(p, parent pgtest.Plan, index string) string {
	switch large := p.Relation == "executions" || p.Relation == "execution_data"; {
	case large && p.Type == "Seq Scan":
		return "reads all " + p.Relation
	case p.Index == index && parent.Type != "Limit":
		return fmt.Sprintf("reads %s for a %s, not for a limit", index, parent.Type)
	case p.Relation == "executions" && p.Index != index && p.Index != "executions_pkey":
		return "reads executions by " + p.Type
	}
	for _, child := range p.Plans {
		if problem := unbounded(child, p, index); problem != "" {
			return problem
		}
	}
	return ""
}

// TestListFilters holds that each query of the list finds what its filters say, page by page.
func TestListFilters(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	store := execution.NewStore(pool)
	org, workflow := pgtest.Workflow(t, pool)
	rare := history(t, pool, org, workflow, 10000)
	other, theirs := pgtest.Workflow(t, pool)
	insert(t, pool, other, theirs, 50, execution.Queued, execution.Running, execution.Completed, execution.Failed)
	everything := listed(t, store, execution.ListParams{OrganizationID: org}, 201)
	for name, c := range listCases(org, workflow, rare) {
		c.p.OrganizationID = org
		var want []int64
		for _, x := range everything {
			if c.p.ParentID != nil && (*c.p.ParentID != firstOf(org) || x.Number%21 != 4) {
				continue
			}
			if matches(c.p, x) {
				want = append(want, x.Number)
			}
		}
		var got []int64
		for _, x := range listed(t, store, c.p, 200) {
			got = append(got, x.Number)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %d executions, want %d", name, len(got), len(want))
		}
	}
}

// listed returns what all pages show.
func listed(t *testing.T, store *execution.Store, p execution.ListParams, size int) (all []execution.Execution) {
	t.Helper()
	p.Limit = size
	for {
		page, err := store.List(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page...)
		if len(page) < size {
			return all
		}
		p.Before = &page[size-1].ID
	}
}

// matches is what ListParams say, in Go.
func matches(p execution.ListParams, x execution.Execution) bool {
	created := time.UnixMilli(1750000000000 + x.Number - 1)
	return (p.WorkflowID == nil || *p.WorkflowID == x.WorkflowID) &&
		(len(p.Statuses) == 0 || slices.Contains(p.Statuses, x.Status)) &&
		(len(p.Sources) == 0 || slices.Contains(p.Sources, x.Source)) &&
		(p.Actor == "" || p.Actor == x.Actor) &&
		(p.CreatedAfter == nil || created.After(*p.CreatedAfter)) &&
		(p.CreatedBefore == nil || created.Before(*p.CreatedBefore))
}
