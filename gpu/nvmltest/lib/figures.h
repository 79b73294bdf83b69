/*
 * The values in a test's file (gpu/nvmltest/box.go writes it), one a line:
 *
 *	driver 570.86.15
 *	gpu 0 name NVIDIA GeForce RTX 4090
 *	gpu 0 process 4711 9663676416 compute
 *
 * A file that cannot be read is a mistake in the test: the library reports it on
 * stderr and ends the process, so that it is not taken for a fault of the GPU.
 */
#ifndef NVMLTEST_FIGURES_H
#define NVMLTEST_FIGURES_H

#include <stdbool.h>
#include <stdint.h>

#include NVML_HEADER

enum { max_gpus = 16, max_items = 64 }; /* box.go has the same limits */

struct process {
	unsigned int pid;
	uint64_t used;
	bool graphics;
};

struct xid {
	uint64_t seq, code;
};

struct gpu {
	bool present, lost, missing, mig;
	char uuid[80], name[64];
	uint64_t total, used, reserved;
	uint64_t utilization, memory_utilization, temperature;
	uint64_t power, power_limit, throttle, ecc, replays;
	struct process processes[max_items];
	struct xid xids[max_items];
	char unsupported[max_items][64];
	int n_processes, n_xids, n_unsupported;
};

struct figures {
	char driver[80], hang[64], call_log[4096];
	int cuda; /* 12080 is 12.8 */
	nvmlReturn_t init;
	struct gpu gpus[max_gpus];
};

/* Reads the file that LLMSUP_TEST_NVML names; free() the result. */
struct figures *figures_read(void);

/*
 * Whether a function is meant by a name of the file: "*" means all, and a name
 * without a version every version, so that a test need not know which one the
 * caller prefers.
 */
bool figures_mean(const char *name, const char *function);

const char *error_text(nvmlReturn_t code);

#endif
