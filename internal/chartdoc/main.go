// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Command chartdoc writes charts/headgate/README.md from the comments in
// values.yaml, so that the two cannot disagree.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	chart = "charts/headgate"
	head  = `# Chart headgate

<!-- Generated from values.yaml by make generate. Edit that file. -->

Installs the Headgate controller, its CRDs, its admission policy, the rights it
needs and the GatewayClass ` + "`headgate`" + `. How to install, upgrade and remove it:
[docs/install.md](../../docs/install.md).

Every value is checked by a schema before anything is installed.

| Value | Default | Meaning |
|---|---|---|
`
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "chartdoc:", err)
		os.Exit(1)
	}
}

func run() error {
	data, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	if err != nil {
		return err
	}
	rows, err := table(data)
	if err != nil {
		return fmt.Errorf("%s/values.yaml: %w", chart, err)
	}
	return os.WriteFile(filepath.Join(chart, "README.md"), []byte(head+strings.Join(rows, "")), 0o644)
}

// table gives one row per value that a user can set, in the order of the file.
// A value without a comment is an error.
func table(values []byte) ([]string, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(values, &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("not a mapping")
	}
	return rows("", doc.Content[0])
}

func rows(prefix string, mapping *yaml.Node) ([]string, error) {
	var out []string
	for i := 0; i < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		path := prefix + key.Value
		// A commented mapping is one value (resources); one without a comment groups others.
		comment := sentence(key.HeadComment)
		if value.Kind == yaml.MappingNode && comment == "" {
			inner, err := rows(path+".", value)
			if err != nil {
				return nil, err
			}
			out = append(out, inner...)
			continue
		}
		if comment == "" {
			return nil, fmt.Errorf("line %d: %s has no comment: say above it what it means", key.Line, path)
		}
		var set any
		if err := value.Decode(&set); err != nil {
			return nil, err
		}
		text, err := json.Marshal(set)
		if err != nil {
			return nil, err
		}
		out = append(out, fmt.Sprintf("| `%s` | `%s` | %s |\n", path, text, comment))
	}
	return out, nil
}

// sentence joins the lines of the last paragraph of a comment.
func sentence(comment string) string {
	paragraphs := strings.Split(comment, "\n\n")
	var words []string
	for line := range strings.Lines(paragraphs[len(paragraphs)-1]) {
		words = append(words, strings.Fields(strings.TrimPrefix(line, "#"))...)
	}
	return strings.Join(words, " ")
}
