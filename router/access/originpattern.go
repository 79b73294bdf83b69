package access

import (
	"net/netip"
	"strconv"
	"strings"
)

// ParseOrigin returns an entry of Policy.Origins as browsers write origins: in lower case,
// and without the default port of its scheme. An entry is one of
//   - scheme://host or scheme://host:port;
//   - the same with "*." before the host, for all names below it, or with the port "*",
//     for all ports;
//   - "null", which browsers send for pages of files and of sandboxes;
//   - "*", for all pages.
func ParseOrigin(text string) (entry string, ok bool) {
	if text == anyOrigin || text == nullOrigin {
		return text, true
	}
	scheme, authority, found := strings.Cut(strings.ToLower(text), "://")
	if !found || !isScheme(scheme) {
		return "", false
	}
	host, port := splitPort(authority)
	host, ok = parseHost(host)
	if !ok || port != "" && port != anyPort && !isPort(port) {
		return "", false
	}
	if scheme == "http" && port == ":80" || scheme == "https" && port == ":443" {
		port = ""
	}
	return scheme + "://" + host + port, true
}

const (
	anyOrigin  = "*"
	nullOrigin = "null"
	anyPort    = ":*"
	below      = "*." // before a host: all names below it
)

// matchOrigin reports whether an entry, as ParseOrigin returns it, allows the Origin of a
// request. What browsers never send matches no pattern: upper case, a user, a path, a dot
// at the end.
func matchOrigin(entry, origin string) bool {
	if entry == anyOrigin || entry == origin {
		return true
	}
	scheme, authority, _ := strings.Cut(entry, "://")
	presentedScheme, presented, found := strings.Cut(origin, "://")
	if !found || presentedScheme != scheme {
		return false
	}
	host, port := splitPort(authority)
	presentedHost, presentedPort := splitPort(presented)
	if port != presentedPort && (port != anyPort || presentedPort != "" && !isPort(presentedPort)) {
		return false
	}
	if domain, wild := strings.CutPrefix(host, below); wild {
		name, found := strings.CutSuffix(presentedHost, "."+domain)
		return found && isHostName(name)
	}
	return host == presentedHost
}

// splitPort splits a host from its port, which keeps its colon; "" = there is none.
func splitPort(authority string) (host, port string) {
	i := strings.LastIndexByte(authority, ':')
	if i < 0 || i < strings.LastIndexByte(authority, ']') { // the colon is part of an IPv6 address
		return authority, ""
	}
	return authority[:i], authority[i:]
}

// isPort reports whether a text is a colon and a port, as browsers write it.
func isPort(text string) bool {
	digits, _ := strings.CutPrefix(text, ":")
	n, err := strconv.ParseUint(digits, 10, 16)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == digits
}

// parseHost returns a host name or an address as browsers write it. The name may be a
// pattern.
func parseHost(host string) (string, bool) {
	if address, found := strings.CutPrefix(host, "["); found {
		ip, err := netip.ParseAddr(strings.TrimSuffix(address, "]"))
		return "[" + ip.String() + "]", err == nil && ip.Is6() && ip.Zone() == "" && strings.HasSuffix(address, "]")
	}
	return host, isHostName(strings.TrimPrefix(host, below))
}

// isHostName reports whether a text is one or more labels of a host name, in lower case.
// Browsers send names with other characters in ASCII, as in xn--bcher-kva.example.
func isHostName(text string) bool {
	for label := range strings.SplitSeq(text, ".") {
		if label == "" || strings.Trim(label, hostCharacters) != "" {
			return false
		}
	}
	return true
}

const (
	letters        = "abcdefghijklmnopqrstuvwxyz"
	hostCharacters = letters + "0123456789-_"
)

func isScheme(text string) bool {
	return text != "" && strings.Contains(letters, text[:1]) && strings.Trim(text, hostCharacters+"+.") == ""
}
