// Command controlplane is a Kubernetes control plane in one executable: etcd,
// kube-apiserver, kube-scheduler, kube-controller-manager and kubectl, each
// exactly as its own published Go module provides it. The component is chosen
// by the name the executable is called by, or else by its first argument.
//
// It is test equipment. One executable means one link step, which is most of
// what building five of them would cost.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// dieWithParentEnv makes a component exit when its standard input reaches its
// end. A parent that keeps the other end of that pipe open takes the component
// with it however it ends, including by a signal it cannot handle.
const dieWithParentEnv = "TIDELINE_DIE_WITH_PARENT"

var components = map[string]func(){
	"etcd":                    func() { etcdmain.Main(os.Args) },
	"kube-apiserver":          func() { run(apiserver.NewAPIServerCommand()) },
	"kube-scheduler":          func() { run(scheduler.NewSchedulerCommand()) },
	"kube-controller-manager": func() { run(controllermanager.NewControllerManagerCommand()) },
	"kubectl":                 runKubectl,
}

func main() {
	name := filepath.Base(os.Args[0])
	start, found := components[name]
	if !found && len(os.Args) > 1 {
		name = os.Args[1]
		start, found = components[name]
		os.Args = append([]string{name}, os.Args[2:]...)
	}
	if !found {
		fmt.Fprintln(os.Stderr, "usage: controlplane etcd|kube-apiserver|kube-scheduler|kube-controller-manager|kubectl [ARGUMENT]...")
		os.Exit(2)
	}
	if os.Getenv(dieWithParentEnv) == "1" {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			// State is thrown away with the test that owns it, so there is
			// nothing to shut down in order.
			os.Exit(0)
		}()
	}
	start()
}

func run(command *cobra.Command) {
	os.Exit(cli.Run(command))
}

func runKubectl() {
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
	}
}
