// Package cli is the command tree of foundry, and the wiring of its processes.
//
// Commands that talk to a server do so through the public API and nothing else. What they print on
// stdout is for people on a terminal, plain lines elsewhere, and JSON with --json; errors are one
// sentence on stderr. Exit codes: 0 done, 1 the execution failed or something went wrong, 2 usage,
// 4 credentials, 130 interrupted.
//
// # Following an execution
//
//	connecting ──200──▶ streaming ──event: end──▶ ended
//	  ▲  │  204 ─────────────────────────────────▲
//	  │  └─ 4xx ──▶ refused
//	  └── connection lost, end of body, 5xx, 429, silence for 45 s: after a pause,
//	      from the last sequence seen
//
// The sequence numbers of an execution have no gaps and come in order, so a reader that drops what
// is not above the last one it has seen shows every line once, through any number of
// restarts of the server. It gives up when no connection has worked for five minutes.
package cli
