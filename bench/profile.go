package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// profileSeconds is the length of a CPU profile: it begins with the measurement and may outlast it.
const profileSeconds = 4

// profile begins to write profiles of an installation's processes, if they were asked for. The function returned waits for them, and
// adds the statements that cost the most.
func (in *installation) profile(ctx context.Context, name string) (stop func()) {
	if in.b.profile == "" {
		return func() {}
	}
	for _, sql := range []string{
		"ALTER SYSTEM SET pg_stat_statements.track_planning = on", // the library knows it only now that it is loaded
		"SELECT pg_reload_conf()",
		"SELECT pg_stat_statements_reset()",
	} {
		if _, err := in.pool.Exec(ctx, sql); err != nil {
			in.b.progress("statements: %v", err)
		}
	}
	var wg sync.WaitGroup
	for i, p := range append([]*process{in.serve}, in.workers...) {
		file := filepath.Join(in.b.profile, fmt.Sprintf("%s-%s-%d.pprof", name, p.role, i))
		wg.Go(func() {
			if err := fetch(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", p.debug, profileSeconds), file); err != nil {
				in.b.progress("profiling: %v", err)
			}
		})
	}
	return func() {
		wg.Wait()
		if err := statements(ctx, in.pool, filepath.Join(in.b.profile, name+"-statements.txt")); err != nil {
			in.b.progress("statements: %v", err)
		}
	}
}

// sizes writes how large the largest tables and indexes are.
func sizes(ctx context.Context, pool *pgxpool.Pool, file io.Writer) error {
	rows, err := pool.Query(ctx, `SELECT relname, pg_relation_size(oid) FROM pg_class WHERE relkind IN ('r', 'i') AND relnamespace = 'public'::regnamespace ORDER BY 2 DESC LIMIT 25`)
	if err != nil {
		return err
	}
	defer rows.Close()
	fmt.Fprintf(file, "%12s  relation\n", "bytes")
	for rows.Next() {
		var name string
		var bytes int64
		if err := rows.Scan(&name, &bytes); err != nil {
			return err
		}
		fmt.Fprintf(file, "%12d  %s\n", bytes, name)
	}
	return rows.Err()
}

// scans writes how tables were read and changed. Many rows read by whole scans tell of a plan that was made while the table was small.
func scans(ctx context.Context, pool *pgxpool.Pool, file io.Writer) error {
	rows, err := pool.Query(ctx, `SELECT relname, seq_scan, seq_tup_read, COALESCE(idx_scan, 0), n_tup_upd, n_tup_hot_upd, n_dead_tup, autovacuum_count, autoanalyze_count
FROM pg_stat_user_tables WHERE seq_scan + COALESCE(idx_scan, 0) > 0 ORDER BY seq_tup_read DESC LIMIT 12`)
	if err != nil {
		return err
	}
	defer rows.Close()
	fmt.Fprintf(file, "%12s %12s %12s %10s %10s %10s %8s %8s  table\n", "whole scans", "rows of them", "index scans", "updates", "of it HOT", "dead", "vacuums", "analyzes")
	for rows.Next() {
		var table string
		var n [8]int64
		if err := rows.Scan(&table, &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &n[6], &n[7]); err != nil {
			return err
		}
		fmt.Fprintf(file, "%12d %12d %12d %10d %10d %10d %8d %8d  %s\n", n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], table)
	}
	return rows.Err()
}

func fetch(ctx context.Context, url, name string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(file, response.Body)
	return err
}

// statements writes what each statement has cost.
func statements(ctx context.Context, pool *pgxpool.Pool, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	rows, err := pool.Query(ctx, `SELECT calls, total_exec_time, mean_exec_time, plans, total_plan_time, rows, wal_bytes::bigint, left(regexp_replace(query, '\s+', ' ', 'g'), 90)
FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY total_exec_time + total_plan_time DESC LIMIT 25`)
	if err != nil {
		return err
	}
	defer rows.Close()
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := sizes(ctx, pool, file); err != nil {
		return err
	}
	if err := scans(ctx, pool, file); err != nil {
		return err
	}
	fmt.Fprintf(file, "%9s %11s %9s %9s %11s %9s %12s  query\n", "calls", "total ms", "mean ms", "plans", "planning ms", "rows", "wal")
	for rows.Next() {
		var calls, plans, count, wal int64
		var total, mean, planning float64
		var query string
		if err := rows.Scan(&calls, &total, &mean, &plans, &planning, &count, &wal, &query); err != nil {
			return err
		}
		fmt.Fprintf(file, "%9d %11.1f %9.3f %9d %11.1f %9d %12d  %s\n", calls, total, mean, plans, planning, count, wal, query)
	}
	return rows.Err()
}
