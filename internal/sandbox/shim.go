package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"foundry/internal/errs"
	"foundry/internal/shim"
)

// tailSlack is how long a tail may take beyond its wait before it counts as unanswered.
const tailSlack = 10 * time.Second

// Shim drives the shim in one sandbox. It keeps no state: any number of processes may
// drive the same directories. An answer that is not the shim's own is errs.Unknown: ask again.
type Shim struct {
	sb   Sandbox
	info Info
}

// NewShim returns the client for the sandbox that info describes.
func NewShim(sb Sandbox, info Info) *Shim {
	return &Shim{sb: sb, info: info}
}

// Dir returns the directory of a node run, as ReadFile and PutFile take it.
func (s *Shim) Dir(nodeRun uuid.UUID) string {
	return path.Join(s.info.ShimRoot, nodeRun.String())
}

// Prepare makes the shim's root. Tail needs it; Start makes it by itself.
func (s *Shim) Prepare(ctx context.Context) error {
	err := s.sb.PutFile(ctx, path.Join(s.info.ShimRoot, ".keep"), bytes.NewReader(nil), 0o600)
	if err != nil {
		return fmt.Errorf("making the shim's root: %w", err)
	}
	return nil
}

// Start runs a node run's command, at most once however often it is called; the answer's
// state is Started, Already, Ended, Sealed, Lost, or Failed with Error saying why. An empty
// spec.Dir is the workspace. env is NAME=value and may hold secrets; FOUNDRY_WORKSPACE
// and the paths of the run's files are added to it.
func (s *Shim) Start(ctx context.Context, nodeRun uuid.UUID, spec shim.Spec, env []string) (shim.StartResult, error) {
	if spec.Dir == "" {
		spec.Dir = s.info.Workspace
	}
	if err := spec.Validate(); err != nil {
		return shim.StartResult{}, errs.E(errs.Invalid, "The command cannot be started: %s.", err)
	}
	content, err := json.Marshal(spec)
	if err != nil {
		return shim.StartResult{}, fmt.Errorf("encoding the command: %w", err)
	}
	dir := s.Dir(nodeRun)
	if err := s.sb.PutFile(ctx, path.Join(dir, shim.SpecFile), bytes.NewReader(content), 0o600); err != nil {
		return shim.StartResult{}, fmt.Errorf("storing the command: %w", err)
	}
	env = append(slices.Clip(env), "FOUNDRY_WORKSPACE="+s.info.Workspace)
	return s.call(ctx, shim.EscapeEnv(env), "start", dir)
}

// Seal makes sure that nothing can be started for the node run from now on. The state is Sealed,
// Started or Ended (too late: it runs, or ran), or Lost; whatever a lost one left behind is killed.
func (s *Shim) Seal(ctx context.Context, nodeRun uuid.UUID) (shim.State, error) {
	r, err := s.call(ctx, nil, "seal", s.Dir(nodeRun))
	return r.State, err
}

// Signal asks the supervisor to end the command: shim.TERM is followed by KILL after the
// grace of its spec, shim.KILL ends it at once. It returns when the supervisor has been told
// and tells the directory's state; the end shows in Tail.
func (s *Shim) Signal(ctx context.Context, nodeRun uuid.UUID, signal shim.Signal) (shim.State, error) {
	r, err := s.call(ctx, nil, "signal", s.Dir(nodeRun), string(signal))
	return r.State, err
}

// Tail returns what is new in all directories, waiting up to wait for something. offsets
// are where to go on in the output files, or shim.Done; a directory that is not named is told
// from 0, unless somebody has said Done to it.
func (s *Shim) Tail(ctx context.Context, offsets map[uuid.UUID]int64, wait time.Duration) (shim.TailResult, error) {
	return s.tail(ctx, []string{"tail", s.info.ShimRoot, "--wait", wait.String()}, offsets, nil, wait)
}

// Watch is Tail that tells of new checkpoints too. stamps are those that were told before. The shim must speak
// protocol 2, which its answers to Tail say.
func (s *Shim) Watch(ctx context.Context, offsets, stamps map[uuid.UUID]int64, wait time.Duration) (shim.TailResult, error) {
	return s.tail(ctx, []string{"tail", s.info.ShimRoot, "--checkpoints", "--wait", wait.String()}, offsets, stamps, wait)
}

func (s *Shim) tail(ctx context.Context, argv []string, offsets, stamps map[uuid.UUID]int64, wait time.Duration) (shim.TailResult, error) {
	options := len(argv)
	for id, offset := range offsets {
		arg := id.String() + ":" + strconv.FormatInt(offset, 10)
		if stamp := stamps[id]; stamp != 0 {
			arg += ":" + strconv.FormatInt(stamp, 10)
		}
		argv = append(argv, arg)
	}
	slices.Sort(argv[options:])
	ctx, cancel := context.WithTimeout(ctx, wait+tailSlack)
	defer cancel()

	var r shim.TailResult
	if err := s.run(ctx, nil, argv, &r); err != nil {
		return shim.TailResult{}, err
	}
	if r.Error != "" {
		return shim.TailResult{}, errs.E(errs.Unavailable, "The shim could not read its output.").Because(errors.New(r.Error))
	}
	return r, nil
}

// ReadFrames reads whole frames of a node run's output from a file offset: at most limit
// bytes, which must be at least shim.MaxFrameSize. next is the offset to go on from; it is
// offset again where no further whole frame is stored yet. Bytes that are no frame, as a
// crash of the machine may leave, are errs.Internal.
func (s *Shim) ReadFrames(ctx context.Context, nodeRun uuid.UUID, offset, limit int64) (frames []shim.Frame, next int64, err error) {
	if limit < shim.MaxFrameSize {
		return nil, offset, fmt.Errorf("reading output: a limit of %d bytes may not hold a frame", limit)
	}
	b, err := s.sb.ReadFile(ctx, path.Join(s.Dir(nodeRun), shim.OutputFile), offset, limit)
	if err != nil {
		return nil, offset, fmt.Errorf("reading output: %w", err)
	}
	frames, n, err := shim.DecodeFrames(b)
	if err != nil {
		err = errs.E(errs.Internal, "The stored output is damaged.").Because(err)
	}
	return frames, offset + int64(n), err
}

// listTimeout is how long the shim may take to read and hash what a command has left.
const listTimeout = 2 * time.Minute

// ListArtifacts lists what a node run has left in its artifacts folder. A shim that refuses is errs.Invalid.
func (s *Shim) ListArtifacts(ctx context.Context, nodeRun uuid.UUID) (shim.ListResult, error) {
	return s.list(ctx, "list", s.Dir(nodeRun), "artifacts")
}

// ListCheckpoint lists the newest checkpoint of a node run that appeared after another one, or at all for an empty name. While the command
// runs, settled leaves alone those of the last moment, so that no other one can take a place before what is listed.
func (s *Shim) ListCheckpoint(ctx context.Context, nodeRun uuid.UUID, appeared int64, name string, settled bool) (shim.ListResult, error) {
	argv := []string{"list", s.Dir(nodeRun), "checkpoint"}
	if settled {
		argv = append(argv, "--settled")
	}
	if name != "" {
		argv = append(argv, "--after", strconv.FormatInt(appeared, 10)+":"+name)
	}
	return s.list(ctx, argv...)
}

func (s *Shim) list(ctx context.Context, argv ...string) (shim.ListResult, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	var r shim.ListResult
	if err := s.run(ctx, nil, argv, &r); err != nil {
		return shim.ListResult{}, err
	}
	if r.Error != "" {
		return shim.ListResult{}, errs.E(errs.Invalid, "The shim could not list what the command has left.").Because(errors.New(r.Error))
	}
	return r, nil
}

// Begun reports whether the node run's directory was started or sealed.
func (s *Shim) Begun(ctx context.Context, nodeRun uuid.UUID) (bool, error) {
	entries, err := s.sb.List(ctx, s.info.ShimRoot)
	if err != nil {
		return false, err
	}
	if !slices.ContainsFunc(entries, func(e Entry) bool { return e.Name == nodeRun.String() }) {
		return false, nil
	}
	if entries, err = s.sb.List(ctx, s.Dir(nodeRun)); err != nil {
		return false, err
	}
	return slices.ContainsFunc(entries, func(e Entry) bool { return e.Name == shim.StartedFile }), nil
}

// ReadLeft reads a file that was listed: folder is shim.ArtifactsDir or shim.CheckpointDir. Its errors are those of Sandbox.ReadFile.
func (s *Shim) ReadLeft(ctx context.Context, nodeRun uuid.UUID, folder, name string, offset, limit int64) ([]byte, error) {
	return s.sb.ReadFile(ctx, path.Join(s.Dir(nodeRun), folder, name), offset, limit)
}

// PutRestored puts a file of a checkpoint to where a start finds it, whose spec names the first part of the path (shim.Spec.Restore).
func (s *Shim) PutRestored(ctx context.Context, nodeRun uuid.UUID, name string, content io.Reader, mode uint32) error {
	return s.sb.PutFile(ctx, path.Join(s.Dir(nodeRun), shim.RestoreDir, name), content, mode)
}

func (s *Shim) call(ctx context.Context, env []string, argv ...string) (shim.Result, error) {
	var r shim.Result
	if err := s.run(ctx, env, argv, &r); err != nil {
		return shim.Result{}, err
	}
	if r.State == "" {
		return r, errs.E(errs.Unavailable, "The shim could not %s.", argv[0]).Because(errors.New(r.Error))
	}
	return r, nil
}

// run runs a subcommand and decodes the last line of its answer.
func (s *Shim) run(ctx context.Context, env, argv []string, answer any) error {
	res, err := s.sb.Run(ctx, Command{Argv: slices.Concat(s.info.ShimCommand, argv), Env: env, Shim: argv[0]})
	if err != nil {
		return fmt.Errorf("calling shim %s: %w", argv[0], err)
	}
	line := bytes.TrimSpace(res.Stdout)
	if i := bytes.LastIndexByte(line, '\n'); i >= 0 {
		line = line[i+1:]
	}
	if err := json.Unmarshal(line, answer); err != nil {
		return errs.E(errs.Unknown, "The sandbox gave no answer to %s.", argv[0]).
			Because(fmt.Errorf("exit code %d: %w", res.ExitCode, err))
	}
	return nil
}
