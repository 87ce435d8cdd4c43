package sandboxtest

import (
	"bytes"
	"context"
	"io"

	"foundry/internal/sandbox"
	"foundry/internal/sandbox/hostbox"
	"foundry/internal/shim"
)

// fakeSandbox passes each call of a box through the fake's faults.
type fakeSandbox struct {
	fake *Fake
	id   string
	box  *hostbox.Box
}

func (s *fakeSandbox) Run(ctx context.Context, c sandbox.Command) (r sandbox.Result, err error) {
	err = s.fake.around(ctx, OpRun, shimCall(s.fake.shim, c.Argv), s.id, func() error {
		r, err = s.box.Run(ctx, c)
		return err
	})
	return r, err
}

func (s *fakeSandbox) PutFile(ctx context.Context, path string, content io.Reader, mode uint32) error {
	b, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	return s.fake.around(ctx, OpPutFile, "", s.id, func() error {
		return s.box.PutFile(ctx, path, bytes.NewReader(b), mode)
	})
}

func (s *fakeSandbox) ReadFile(ctx context.Context, path string, offset, limit int64) (b []byte, err error) {
	err = s.fake.around(ctx, OpReadFile, "", s.id, func() error {
		b, err = s.box.ReadFile(ctx, path, offset, limit)
		return err
	})
	return b, err
}

func (s *fakeSandbox) List(ctx context.Context, path string) (entries []sandbox.Entry, err error) {
	err = s.fake.around(ctx, OpListFiles, "", s.id, func() error {
		entries, err = s.box.List(ctx, path)
		return err
	})
	return entries, err
}

func (s *fakeSandbox) Delete(ctx context.Context, path string) error {
	return s.fake.around(ctx, OpDelete, "", s.id, func() error {
		return s.box.Delete(ctx, path)
	})
}

func shimCall(program string, argv []string) string {
	if len(argv) > 1 && argv[0] == program {
		return argv[1]
	}
	return ""
}

// endBox kills what runs in a box. An error would show as a test that does not end.
func endBox(info sandbox.Info) {
	_ = shim.EndAll(info.ShimRoot, idVariable+"="+info.ProviderID)
}

// removeBox ends and removes a box.
func removeBox(info sandbox.Info, dir string) {
	endBox(info)
	_ = hostbox.RemoveAll(dir) // the test's temporary folder is removed anyway
	endBox(info)               // what a call has started that had begun before
}
