// CoreDNS with only the plugins that the cluster's DNS uses.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() {
	// The order in which plugins see a query, whatever the order in the Corefile: what the cluster
	// does not know, the template answers ("no such name").
	dnsserver.Directives = []string{"bind", "errors", "health", "ready", "kubernetes", "template"}
	coremain.Run()
}
