// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// SharedLibraries returns the files that a dynamically linked program needs to
// start, its loader included, as they lie on this machine. A static program
// needs none.
func SharedLibraries(program string) ([]string, error) {
	loader, needed, err := needs(program)
	if err != nil {
		return nil, err
	}
	if loader == "" {
		return nil, nil
	}
	// The loader searches next to libc: the folder of its real path is where this
	// distribution keeps its libraries.
	resolved, err := filepath.EvalSymlinks(loader)
	if err != nil {
		return nil, fmt.Errorf("%s needs %s, which this machine lacks: %w", program, loader, err)
	}
	folders := []string{filepath.Dir(loader), filepath.Dir(resolved), strings.TrimPrefix(filepath.Dir(resolved), "/usr")}
	found := map[string]string{filepath.Base(loader): loader}
	for len(needed) > 0 {
		name := needed[0]
		needed = needed[1:]
		if found[name] != "" {
			continue
		}
		file, err := locate(name, folders)
		if err != nil {
			return nil, fmt.Errorf("%s needs %s: %w", program, name, err)
		}
		found[name] = file
		_, more, err := needs(file)
		if err != nil {
			return nil, err
		}
		needed = append(needed, more...)
	}
	var files []string
	for _, file := range found {
		files = append(files, file)
	}
	slices.Sort(files)
	return files, nil
}

func locate(name string, folders []string) (string, error) {
	for _, folder := range folders {
		file := filepath.Join(folder, name)
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("not in %s", strings.Join(folders, ", "))
}

// needs reads a program's loader and the libraries it names.
func needs(file string) (loader string, libraries []string, err error) {
	f, err := elf.Open(file)
	if err != nil {
		return "", nil, fmt.Errorf("reading %s: %w", file, err)
	}
	defer f.Close() //nolint:errcheck // read only
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		data := make([]byte, p.Filesz)
		if _, err := p.ReadAt(data, 0); err != nil {
			return "", nil, fmt.Errorf("reading %s: %w", file, err)
		}
		loader = strings.TrimRight(string(data), "\x00")
	}
	libraries, err = f.ImportedLibraries()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return "", nil, fmt.Errorf("reading %s: %w", file, err)
	}
	return loader, libraries, nil
}
