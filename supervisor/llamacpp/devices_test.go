package llamacpp

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParseHardware(t *testing.T) {
	for name, tc := range map[string]struct {
		out        string
		want       Hardware
		accelerate bool
	}{
		"the package, without a GPU": {
			out: "0.00.008.492 D ggml_backend_load_best: failed to enumerate /usr/lib/x86_64-linux-gnu/ggml/backends0: No such file or directory\n" +
				"0.00.038.502 I load_backend: loaded CPU backend from /opt/llama-server/root/usr/lib/x86_64-linux-gnu/libggml-cpu-zen4.so\n" +
				"Available devices:\n  (none)\n",
			want: Hardware{Backends: []string{"CPU (zen4)"}},
		},
		"the package, with Vulkan": { // the driver's name has parentheses itself
			out: "0.00.032.845 D ggml_vulkan: 0 = llvmpipe (LLVM 21.1.8, 256 bits) (llvmpipe) | uma: 0 | fp16: 1 | bf16: 0\n" +
				"0.00.055.681 I load_backend: loaded CPU backend from /r/libggml-cpu-zen4.so\n" +
				"Available devices:\n  Vulkan0: llvmpipe (LLVM 21.1.8, 256 bits) (24105 MiB, 22861 MiB free)\n" +
				"0.00.055.682 I load_backend: loaded Vulkan backend from /r/libggml-vulkan.so\n",
			want: Hardware{
				Backends: []string{"Vulkan", "CPU (zen4)"},
				Devices:  []Device{{"Vulkan0", "llvmpipe (LLVM 21.1.8, 256 bits)", 24105 << 20}},
			},
			accelerate: true,
		},
		"arm64, one file for all CPUs": {
			out:  "load_backend: loaded CPU backend from /usr/lib/aarch64-linux-gnu/ggml/libggml-cpu.so\r\nAvailable devices:\r\n",
			want: Hardware{Backends: []string{"CPU"}},
		},
		"CUDA, linked in": {
			out: "ggml_cuda_init: found 2 CUDA devices:\n  Device 0: NVIDIA GeForce RTX 4090, compute capability 8.9, VMM: yes\n" +
				"  Device 1: NVIDIA RTX A2000, compute capability 8.6, VMM: yes\nAvailable devices:\n" +
				"  CUDA0: NVIDIA GeForce RTX 4090 (24080 MiB, 23700 MiB free)\n  CUDA1: NVIDIA RTX A2000 (5937 MiB, 5800 MiB free)\n",
			want: Hardware{Devices: []Device{{"CUDA0", "NVIDIA GeForce RTX 4090", 24080 << 20}, {"CUDA1", "NVIDIA RTX A2000", 5937 << 20}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := parseHardware(tc.out)
			if !reflect.DeepEqual(got, tc.want) || got.Accelerates() != tc.accelerate {
				t.Errorf("%+v, accelerates: %v; want %+v", got, got.Accelerates(), tc.want)
			}
		})
	}
}

// TestReadHardware: a real llama-server without a GPU names its CPU backend if it loads one, and another program is an error.
func TestReadHardware(t *testing.T) {
	h, err := ReadHardware(t.Context(), llamaServer(t), nil)
	if err != nil || len(h.Backends) > 0 && !slices.ContainsFunc(h.Backends, isCPU) {
		t.Errorf("%+v, %v", h, err)
	}
	if _, err := ReadHardware(t.Context(), "/bin/true", nil); err == nil || !strings.Contains(err.Error(), "no devices") {
		t.Errorf("of /bin/true: %v", err)
	}
}
