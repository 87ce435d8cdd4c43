package local

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"foundry/internal/errs"
)

// folderID reads the name that a state folder has been given. The first process that asks gives it one, whole: a link
// either makes the file with its content or finds another's.
func folderID(state string) (string, error) {
	name := filepath.Join(state, "id")
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := giveID(state, name); err != nil {
			return "", err
		}
		text, err = os.ReadFile(name)
	}
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(string(text))
	if raw, err := hex.DecodeString(id); err != nil || len(raw) != 4 {
		return "", errs.E(errs.Invalid, "%s does not hold the name of the folder: eight hexadecimal digits.", name)
	}
	return id, nil
}

func giveID(state, name string) error {
	raw := make([]byte, 4)
	rand.Read(raw) // never fails
	aside, err := os.CreateTemp(state, ".id-*")
	if err != nil {
		return err
	}
	defer os.Remove(aside.Name())
	_, err = aside.WriteString(hex.EncodeToString(raw) + "\n")
	if err := errors.Join(err, aside.Close()); err != nil {
		return err
	}
	if err := os.Link(aside.Name(), name); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
