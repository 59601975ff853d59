package processes

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// hosts are network namespaces on one bridge, which stands in the sandbox's own
// namespace, where clients are. A packet is lost at the host that it should have
// reached: connections that stand fall silent, as when a switch fails.
type hosts struct {
	net   int // 10.99.net.0/24
	count int
}

// rules drop what comes from the addresses that a host is deaf to.
const rules = `table ip kith {
	set deaf { type ipv4_addr; }
	chain in { type filter hook input priority 0; policy accept; ip saddr @deaf drop; }
}
`

// newHosts makes the bridge and the hosts.
func newHosts(net, count int) (*hosts, error) {
	h := &hosts{net, count}
	bridge := h.bridge()
	steps := [][]string{
		{"link", "add", bridge, "type", "bridge"},
		{"addr", "add", fmt.Sprintf("10.99.%d.254/24", net), "dev", bridge},
		{"link", "set", bridge, "up"},
	}
	for i := range count {
		name, port := h.name(i), fmt.Sprintf("p%dn%d", net, i)
		steps = append(steps,
			[]string{"netns", "add", name},
			[]string{"link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name},
			[]string{"link", "set", port, "master", bridge, "up"},
			[]string{"-n", name, "addr", "add", h.ip(i) + "/24", "dev", "eth0"},
			[]string{"-n", name, "link", "set", "eth0", "up"},
			[]string{"-n", name, "link", "set", "lo", "up"},
		)
	}
	for _, step := range steps {
		if err := run("", "ip", step...); err != nil {
			return nil, errors.Join(err, h.close())
		}
	}
	for i := range count {
		if err := h.nft(i, rules); err != nil {
			return nil, errors.Join(err, h.close())
		}
	}
	return h, nil
}

func (h *hosts) bridge() string { return fmt.Sprintf("kith%d", h.net) }

func (h *hosts) name(i int) string { return fmt.Sprintf("kith%dn%d", h.net, i+1) }

func (h *hosts) ip(i int) string { return fmt.Sprintf("10.99.%d.%d", h.net, i+1) }

// command runs a program on a host; its process is the program's own.
func (h *hosts) command(i int, name string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", h.name(i), name}, args...)...)
}

// nft gives a host's packet filter commands.
func (h *hosts) nft(i int, commands string) error {
	return run(commands, "ip", "netns", "exec", h.name(i), "nft", "-f", "-")
}

// cut makes hosts deaf to others.
func (h *hosts) cut(from, to []int) error {
	var all []string
	for _, i := range from {
		all = append(all, h.ip(i))
	}
	for _, i := range to {
		if err := h.nft(i, "add element ip kith deaf { "+strings.Join(all, ", ")+" }\n"); err != nil {
			return err
		}
	}
	return nil
}

// heal lets everything through again.
func (h *hosts) heal() error {
	for i := range h.count {
		if err := h.nft(i, "flush set ip kith deaf\n"); err != nil {
			return err
		}
	}
	return nil
}

// close takes everything away, also where only a part of it was made.
func (h *hosts) close() error {
	var errs []error
	for i := range h.count {
		errs = append(errs, run("", "ip", "netns", "del", h.name(i)))
	}
	return errors.Join(append(errs, run("", "ip", "link", "del", h.bridge()))...)
}

// run runs a tool; what it says is part of the error.
func run(stdin, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
