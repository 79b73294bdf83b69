#include "figures.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	nvmlReturn_t code;
	const char *name, *text;
} errors[] = {
	{NVML_SUCCESS, "SUCCESS", "Success"},
	{NVML_ERROR_UNINITIALIZED, "UNINITIALIZED", "Uninitialized"},
	{NVML_ERROR_INVALID_ARGUMENT, "INVALID_ARGUMENT", "Invalid Argument"},
	{NVML_ERROR_NOT_SUPPORTED, "NOT_SUPPORTED", "Not Supported"},
	{NVML_ERROR_NO_PERMISSION, "NO_PERMISSION", "Insufficient Permissions"},
	{NVML_ERROR_ALREADY_INITIALIZED, "ALREADY_INITIALIZED", "Already Initialized"},
	{NVML_ERROR_NOT_FOUND, "NOT_FOUND", "Not Found"},
	{NVML_ERROR_INSUFFICIENT_SIZE, "INSUFFICIENT_SIZE", "Insufficient Size"},
	{NVML_ERROR_INSUFFICIENT_POWER, "INSUFFICIENT_POWER", "Insufficient External Power"},
	{NVML_ERROR_DRIVER_NOT_LOADED, "DRIVER_NOT_LOADED", "Driver Not Loaded"},
	{NVML_ERROR_TIMEOUT, "TIMEOUT", "Timeout"},
	{NVML_ERROR_IRQ_ISSUE, "IRQ_ISSUE", "Interrupt Request Issue"},
	{NVML_ERROR_LIBRARY_NOT_FOUND, "LIBRARY_NOT_FOUND", "NVML Shared Library Not Found"},
	{NVML_ERROR_FUNCTION_NOT_FOUND, "FUNCTION_NOT_FOUND", "Function Not Found"},
	{NVML_ERROR_CORRUPTED_INFOROM, "CORRUPTED_INFOROM", "Corrupted infoROM"},
	{NVML_ERROR_GPU_IS_LOST, "GPU_IS_LOST", "GPU is lost"},
	{NVML_ERROR_RESET_REQUIRED, "RESET_REQUIRED", "GPU requires reset"},
	{NVML_ERROR_OPERATING_SYSTEM, "OPERATING_SYSTEM", "GPU access blocked by the operating system"},
	{NVML_ERROR_LIB_RM_VERSION_MISMATCH, "LIB_RM_VERSION_MISMATCH", "Driver/library version mismatch"},
	{NVML_ERROR_IN_USE, "IN_USE", "In use by another client"},
	{NVML_ERROR_MEMORY, "MEMORY", "Insufficient Memory"},
	{NVML_ERROR_NO_DATA, "NO_DATA", "No data"},
	{NVML_ERROR_INSUFFICIENT_RESOURCES, "INSUFFICIENT_RESOURCES", "Insufficient Resources"},
	{NVML_ERROR_ARGUMENT_VERSION_MISMATCH, "ARGUMENT_VERSION_MISMATCH", "Argument version mismatch"},
	{NVML_ERROR_NOT_READY, "NOT_READY", "Not ready"},
	{NVML_ERROR_GPU_NOT_FOUND, "GPU_NOT_FOUND", "GPU not found"},
	{NVML_ERROR_INVALID_STATE, "INVALID_STATE", "Invalid state"},
	{NVML_ERROR_UNKNOWN, "UNKNOWN", "Unknown Error"},
};
enum { n_errors = sizeof errors / sizeof errors[0] };

const char *error_text(nvmlReturn_t code)
{
	for (int i = 0; i < n_errors; i++)
		if (errors[i].code == code)
			return errors[i].text;
	return "Unknown Error";
}

__attribute__((noreturn, format(printf, 1, 2))) static void mistake(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("nvmltest: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	abort();
}

static nvmlReturn_t error_named(const char *name)
{
	for (int i = 0; i < n_errors; i++)
		if (!strcmp(errors[i].name, name))
			return errors[i].code;
	mistake("init %s is no NVML error", name);
}

bool figures_mean(const char *name, const char *function)
{
	if (!strcmp(name, "*") || !strcmp(name, function))
		return true;
	size_t n = strlen(name);
	return n && !strncmp(name, function, n) && !strncmp(function + n, "_v", 2) && isdigit((unsigned char)function[n + 2]);
}

static void copy(char *to, size_t size, const char *value)
{
	if (strlen(value) >= size)
		mistake("%s is longer than %zu bytes", value, size - 1);
	strcpy(to, value);
}

static uint64_t number(const char *value)
{
	char *end;
	errno = 0;
	uint64_t n = strtoull(value, &end, 10);
	if (errno || end == value || *end || !isdigit((unsigned char)*value))
		mistake("%s is no number", value);
	return n;
}

static int cuda_version(const char *value)
{
	int major, minor, end = 0;
	if (sscanf(value, "%d.%d%n", &major, &minor, &end) != 2 || value[end])
		mistake("cuda %s is not like 12.8", value);
	return major * 1000 + minor * 10;
}

static int one_more(int *n)
{
	if (*n == max_items)
		mistake("more than %d of a kind", max_items);
	return (*n)++;
}

static void gpu_figure(struct gpu *g, const char *key, const char *value)
{
	const struct {
		const char *key;
		uint64_t *figure;
	} numbers[] = {
		{"total", &g->total}, {"used", &g->used}, {"reserved", &g->reserved},
		{"utilization", &g->utilization}, {"memory_utilization", &g->memory_utilization},
		{"temperature", &g->temperature}, {"power", &g->power}, {"power_limit", &g->power_limit},
		{"throttle", &g->throttle}, {"ecc", &g->ecc}, {"replays", &g->replays},
	};
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
		if (!strcmp(key, numbers[i].key)) {
			*numbers[i].figure = number(value);
			return;
		}
	}
	if (!strcmp(key, "uuid")) {
		copy(g->uuid, sizeof g->uuid, value);
		g->present = true;
	} else if (!strcmp(key, "name")) {
		copy(g->name, sizeof g->name, value);
	} else if (!strcmp(key, "lost")) {
		g->lost = number(value);
	} else if (!strcmp(key, "missing")) {
		g->missing = number(value);
	} else if (!strcmp(key, "mig")) {
		g->mig = number(value);
	} else if (!strcmp(key, "unsupported")) {
		int i = one_more(&g->n_unsupported);
		copy(g->unsupported[i], sizeof g->unsupported[i], value);
	} else if (!strcmp(key, "process")) {
		struct process *p = &g->processes[one_more(&g->n_processes)];
		char kind[16];
		if (sscanf(value, "%u %" SCNu64 " %15s", &p->pid, &p->used, kind) != 3)
			mistake("process %s is not a PID, bytes and a kind", value);
		p->graphics = !strcmp(kind, "graphics");
	} else if (!strcmp(key, "xid")) {
		struct xid *x = &g->xids[one_more(&g->n_xids)];
		if (sscanf(value, "%" SCNu64 " %" SCNu64, &x->seq, &x->code) != 2)
			mistake("xid %s is not a sequence number and a code", value);
	} else {
		mistake("no figure of a GPU is called %s", key);
	}
}

/* Takes the first word off a line. */
static char *word(char **line)
{
	char *first = *line, *space = strchr(first, ' ');
	if (!space)
		mistake("%s has no value", first);
	*space = 0;
	*line = space + 1;
	return first;
}

static void figure(struct figures *f, char *line)
{
	const char *key = word(&line);
	if (!strcmp(key, "gpu")) {
		uint64_t n = number(word(&line));
		if (n >= max_gpus)
			mistake("a box has at most %d GPUs", max_gpus);
		const char *of_gpu = word(&line);
		gpu_figure(&f->gpus[n], of_gpu, line);
	} else if (!strcmp(key, "driver")) {
		copy(f->driver, sizeof f->driver, line);
	} else if (!strcmp(key, "cuda")) {
		f->cuda = cuda_version(line);
	} else if (!strcmp(key, "init")) {
		f->init = error_named(line);
	} else if (!strcmp(key, "hang")) {
		copy(f->hang, sizeof f->hang, line);
	} else if (!strcmp(key, "calllog")) {
		copy(f->call_log, sizeof f->call_log, line);
	} else {
		mistake("no figure is called %s", key);
	}
}

struct figures *figures_read(void)
{
	const char *path = getenv("LLMSUP_TEST_NVML");
	FILE *file = path ? fopen(path, "re") : NULL;
	if (!file)
		mistake("LLMSUP_TEST_NVML=%s cannot be read: %s", path ? path : "", strerror(errno));
	struct figures *f = calloc(1, sizeof *f);
	if (!f)
		mistake("out of memory");
	char line[8192];
	while (fgets(line, sizeof line, file)) {
		line[strcspn(line, "\n")] = 0;
		if (*line)
			figure(f, line);
	}
	fclose(file);
	return f;
}
