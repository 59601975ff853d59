package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// Flags can also be set by environment variables and by a configuration file:
// flag over environment over file over default.

const (
	envAnnotation  = "kith_env"  // the variable that sets the flag
	fileAnnotation = "kith_file" // the flag may stand in the file
)

// withEnv lets KITH_NAME set the flags, and says so in their help.
func withEnv(flags *pflag.FlagSet, names ...string) {
	for _, name := range names {
		f := flags.Lookup(name)
		env := "KITH_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		f.Usage += " [$" + env + "]"
		check(flags.SetAnnotation(name, envAnnotation, []string{env}))
	}
}

// withFile lets the configuration file set the flags.
func withFile(flags *pflag.FlagSet, names ...string) {
	for _, name := range names {
		check(flags.SetAnnotation(name, fileAnnotation, []string{""}))
	}
}

// bind sets what the command line has left open, from the environment and then
// from the file of --config.
func (a *app) bind(flags *pflag.FlagSet) error {
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		env := f.Annotations[envAnnotation]
		if f.Changed || len(env) == 0 {
			return
		}
		if v, ok := a.env(env[0]); ok && v != "" {
			if err := flags.Set(f.Name, v); err != nil {
				errs = append(errs, fmt.Errorf("environment variable %s=%q: %w", env[0], v, err))
			}
		}
	})
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if f := flags.Lookup("config"); f != nil && f.Value.String() != "" {
		return bindFile(flags, f.Value.String())
	}
	return nil
}

// bindFile reads a YAML mapping from flag names to values. What is not the name
// of a flag is refused, with its line.
func bindFile(flags *pflag.FlagSet, path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if len(doc.Content) == 0 {
		return nil // empty, or comments only
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		return fmt.Errorf("%s:%d: want a mapping, such as \"listen: 127.0.0.1:7600\"", path, top.Line)
	}
	var errs []error
	seen := map[string]int{}
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		if before := seen[key.Value]; before > 0 {
			errs = append(errs, fmt.Errorf("%s:%d: %s is set on line %d already", path, key.Line, key.Value, before))
			continue
		}
		seen[key.Value] = key.Line
		if err := bindKey(flags, key, value); err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", path, key.Line, err))
		}
	}
	return errors.Join(errs...)
}

func bindKey(flags *pflag.FlagSet, key, value *yaml.Node) error {
	f := flags.Lookup(key.Value)
	if f == nil || len(f.Annotations[fileAnnotation]) == 0 {
		return fmt.Errorf("unknown key %q", key.Value)
	}
	text, err := scalar(value)
	if err != nil {
		return fmt.Errorf("%s: %w", key.Value, err)
	}
	if f.Changed {
		return nil // the command line or the environment has the last word
	}
	if err := flags.Set(f.Name, text); err != nil {
		return fmt.Errorf("%s: %w", key.Value, err)
	}
	return nil
}

// scalar is a value, or a list of values, as a flag takes it.
func scalar(n *yaml.Node) (string, error) {
	switch {
	case n.Kind == yaml.AliasNode:
		return scalar(n.Alias)
	case n.Kind == yaml.ScalarNode && n.Tag != "!!null":
		return n.Value, nil
	case n.Kind == yaml.SequenceNode:
		items := make([]string, len(n.Content))
		for i, item := range n.Content {
			if item.Kind != yaml.ScalarNode {
				return "", fmt.Errorf("line %d: want a plain value", item.Line)
			}
			items[i] = item.Value
		}
		return strings.Join(items, ","), nil
	}
	return "", fmt.Errorf("line %d: want a value or a list of values", n.Line)
}
