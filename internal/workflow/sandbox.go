package workflow

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"strings"
)

const maxSandbox = 64 << 40 // bytes of memory or disk: more than any machine has

func (c *compiler) sandboxFields(s *Sandbox) []field {
	return []field{
		{"image", func(v *value) { s.Image = c.imageName(v) }},
		{"snapshot", func(v *value) { s.Snapshot = c.imageName(v) }},
		{"cpu", func(v *value) { s.CPU = c.integer(v, 1, 1024, 0) }},
		{"memory", func(v *value) { s.Memory = c.size(v, 1<<20, maxSandbox) }},
		{"disk", func(v *value) { s.Disk = c.size(v, 1<<20, maxSandbox) }},
		{"network", func(v *value) { c.network(&s.Network, v) }},
		{"volumes", func(v *value) { s.Volumes = c.volumes(v) }},
		{"keep", func(v *value) {
			s.Keep = Keep(c.word(v, string(KeepNever), string(KeepOnFailure), string(KeepAlways)))
		}},
		{"keep-for", func(v *value) { s.KeepFor = c.duration(v, 0) }},
		{"log-limit", func(v *value) { s.LogLimit = c.size(v, 1<<10, MaxLog) }},
	}
}

// sandbox checks what excludes what.
func (c *compiler) sandbox(v *value) {
	if snapshot := v.entry("snapshot"); snapshot != nil {
		for _, key := range []string{"image", "cpu", "memory", "disk"} {
			if e := v.entry(key); e != nil {
				c.fault(e.mark, e.path, "conflict", fmt.Sprintf("A snapshot brings its own image and sizes, so %q cannot stand beside it.", key), "Remove one of the two.")
			}
		}
	}
	if e := v.entry("keep-for"); e != nil && c.def.Sandbox.Keep == KeepNever {
		c.fault(e.mark, e.path, "conflict", "keep-for says how long, but the sandbox is never kept.", "Write keep: on-failure or keep: always.")
	}
}

// imageName reads the name of an image or snapshot.
func (c *compiler) imageName(v *value) string {
	text, ok := c.plain(v)
	if ok && (text == "" || len(text) > maxPath || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })) {
		c.fault(v.mark, v.path, "bad_value", fmt.Sprintf("%q cannot be a name here.", text), "")
	}
	return text
}

func (c *compiler) networkFields(n *Network) []field {
	return []field{
		{"block", func(v *value) { n.Block = c.flag(v) }},
		{"allow", func(v *value) { n.Allow = c.allow(v) }},
	}
}

func (c *compiler) network(n *Network, v *value) {
	c.object(v, c.networkFields(n))
	if e := v.entry("allow"); e != nil && n.Block {
		c.fault(e.mark, e.path, "conflict", "The network is either blocked, or limited to what is allowed.", "Remove block or allow.")
	}
}

// domain is a host name, or *. and the domain under which all names are meant.
var domain = regexp.MustCompile(`^(\*\.)?([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

func (c *compiler) allow(v *value) []string {
	var list []string
	if v.shape == shapeList && len(v.items) == 0 {
		c.fault(v.mark, v.path, "bad_value", "The list of what is allowed is empty.", "Write block: true for no network.")
	}
	for _, item := range c.strings(v) {
		_, notPrefix := netip.ParsePrefix(item.text)
		_, notAddr := netip.ParseAddr(item.text)
		if notPrefix != nil && notAddr != nil && (len(item.text) > 253 || !domain.MatchString(item.text)) {
			c.fault(item.mark, item.path, "bad_value", fmt.Sprintf("%q is neither a domain nor a CIDR block.", item.text), "Write it without scheme, port and path, as in api.example.com or 10.0.0.0/8.")
			continue
		}
		list = append(list, item.text)
	}
	return list
}

func (c *compiler) volumeFields(vol *Volume) []field {
	return []field{
		{"name", func(v *value) { vol.Name = c.volumeName(v) }},
		{"path", func(v *value) { vol.Path = c.volumePath(v) }},
	}
}

func (c *compiler) volumes(v *value) []Volume {
	if !c.shaped(v, shapeList) {
		return nil
	}
	var list []Volume
	paths := make(map[string]bool)
	for _, item := range v.items {
		var vol Volume
		c.object(item, c.volumeFields(&vol))
		if item.shape != shapeMap || !c.require(item, "name") || !c.require(item, "path") {
			continue
		}
		if vol.Path != "" && paths[vol.Path] {
			e := item.entry("path")
			c.fault(e.value.mark, e.path, "conflict", fmt.Sprintf("There is a volume at %s already.", vol.Path), "")
		}
		paths[vol.Path] = true
		list = append(list, vol)
	}
	return list
}

func (c *compiler) volumeName(v *value) string {
	text, ok := c.plain(v)
	if ok && (!validKey.MatchString(text) || len(text) > MaxKey) {
		c.fault(v.mark, v.path, "bad_value", fmt.Sprintf("%q cannot be the name of a volume.", text), "A name begins with a letter or _ and goes on with letters, digits, _ and -.")
	}
	return text
}

func (c *compiler) volumePath(v *value) string {
	text, ok := c.plain(v)
	if ok && (!strings.HasPrefix(text, "/") || path.Clean(text) != text || text == "/" || len(text) > maxPath) {
		c.fault(v.mark, v.path, "bad_path", fmt.Sprintf("%q is not a path where a volume can be.", text), "Write an absolute path without . and .. and without a slash at its end, as in /cache.")
		return ""
	}
	return text
}
