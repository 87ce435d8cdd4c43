package shim

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// collect reads the files in which the command left its outputs and summary. The command may have
// put anything there, so neither a link, a fifo nor a size is trusted.
func collect(d directory, spec Spec, exit *Exit) {
	outputs, size, err := readCapped(d.file(outputsFile), spec.OutputsLimit)
	switch {
	case err != nil:
		exit.OutputsError = err.Error()
	case size > spec.OutputsLimit:
		exit.OutputsError = fmt.Sprintf("The file FOUNDRY_OUTPUT has %d bytes; the limit is %d.", size, spec.OutputsLimit)
	default:
		exit.Outputs = outputs
	}
	exit.HasArtifacts, exit.HasCheckpoints = holds(d.file(ArtifactsDir), false), holds(d.file(CheckpointDir), true)
	summary, size, err := readCapped(d.file(summaryFile), spec.SummaryLimit)
	if err == nil {
		exit.Summary = summary
		exit.SummaryTruncated = size > spec.SummaryLimit
	}
}

// readCapped reads up to limit bytes of a regular file, and tells its size. A missing
// file is empty.
func readCapped(name string, limit int64) (content []byte, size int64, err error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, errors.New("The file FOUNDRY_OUTPUT cannot be read.") //nolint:staticcheck // shown to people
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, 0, errors.New("The file FOUNDRY_OUTPUT is not a regular file.") //nolint:staticcheck // shown to people
	}
	content, err = io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, 0, errors.New("The file FOUNDRY_OUTPUT cannot be read.") //nolint:staticcheck // shown to people
	}
	return content, info.Size(), nil
}
