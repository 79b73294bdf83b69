/*
 * Calls the library as a program does that loads it at run time, one call for
 * each line on stdin, and answers each with a line: the result's number, then
 * what was returned. A line that begins with "& " is called in a thread of its
 * own, and so is its answer marked. Handles and sets are kept under numbers.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "abi.h"

static void *library;
static nvmlDevice_t devices[16];
static nvmlEventSet_t sets[16];
static nvmlProcessInfo_v1_t infos_v1[64];
static nvmlProcessInfo_v2_t infos_v2[64];

typedef nvmlReturn_t plain(void);
typedef nvmlReturn_t system_text(char *, unsigned int);
typedef nvmlReturn_t device_text(nvmlDevice_t, char *, unsigned int);
typedef nvmlReturn_t process_text(unsigned int, char *, unsigned int);
typedef nvmlReturn_t system_number(int *);
typedef nvmlReturn_t device_u32(nvmlDevice_t, unsigned int *);
typedef nvmlReturn_t device_u64(nvmlDevice_t, unsigned long long *);
typedef nvmlReturn_t device_pair(nvmlDevice_t, unsigned int *, unsigned int *);
typedef nvmlReturn_t by_index(unsigned int, nvmlDevice_t *);
typedef nvmlReturn_t by_uuid(const char *, nvmlDevice_t *);
typedef nvmlReturn_t device_struct(nvmlDevice_t, void *);
typedef nvmlReturn_t processes(nvmlDevice_t, unsigned int *, void *);
typedef nvmlReturn_t new_set(nvmlEventSet_t *);
typedef nvmlReturn_t old_set(nvmlEventSet_t);
typedef nvmlReturn_t wait_set(nvmlEventSet_t, nvmlEventData_t *, unsigned int);
typedef nvmlReturn_t register_set(nvmlDevice_t, unsigned long long, nvmlEventSet_t);
typedef nvmlReturn_t temperature(nvmlDevice_t, nvmlTemperatureSensors_t, unsigned int *);
typedef nvmlReturn_t ecc_total(nvmlDevice_t, int, int, unsigned long long *);
typedef nvmlReturn_t ecc_at(nvmlDevice_t, int, int, int, unsigned long long *);

static int list(char *out, size_t size, void *call, unsigned int device, unsigned int room, int v1, int null)
{
	void *infos = null ? NULL : v1 ? (void *)infos_v1 : (void *)infos_v2;
	memset(infos_v1, 0xee, sizeof infos_v1);
	memset(infos_v2, 0xee, sizeof infos_v2);
	unsigned int n = room;
	int result = (int)((processes *)call)(devices[device], &n, infos);
	int at = snprintf(out, size, "%d %u", result, n);
	for (unsigned int i = 0; result == NVML_SUCCESS && i < n; i++)
		if (v1)
			at += snprintf(out + at, size - (size_t)at, " %u:%llu", infos_v1[i].pid, infos_v1[i].usedGpuMemory);
		else
			at += snprintf(out + at, size - (size_t)at, " %u:%llu:%x", infos_v2[i].pid, infos_v2[i].usedGpuMemory, infos_v2[i].gpuInstanceId & infos_v2[i].computeInstanceId);
	return result;
}

static void answer(char *out, size_t size, const char *line)
{
	char kind[32] = "", function[64] = "", text[96] = "";
	unsigned int a = 0, b = 0, c = 0;
	sscanf(line, "%31s %63s %u %u %u", kind, function, &a, &b, &c);
	int r;
	unsigned int n = 0, m = 0;
	unsigned long long big = 0;
	void *call = dlsym(library, function);
#define IS(name) !strcmp(kind, name)
	if (!call) {
		snprintf(out, size, "missing");
	} else if (IS("plain")) {
		snprintf(out, size, "%d", (int)((plain *)call)());
	} else if (IS("flags")) {
		snprintf(out, size, "%d", (int)((old_set *)call)((nvmlEventSet_t)0));
	} else if (IS("error")) {
		snprintf(out, size, "%s", ((const char *(*)(nvmlReturn_t))call)(a));
	} else if (IS("system_text")) {
		r = ((system_text *)call)(text, a ? a : sizeof text);
		snprintf(out, size, "%d %s", r, text);
	} else if (IS("text")) {
		r = ((device_text *)call)(devices[a], text, sizeof text);
		snprintf(out, size, "%d %s", r, text);
	} else if (IS("process")) {
		r = ((process_text *)call)(a, text, sizeof text);
		snprintf(out, size, "%d %s", r, text);
	} else if (IS("number")) {
		r = ((system_number *)call)((int *)&n);
		snprintf(out, size, "%d %u", r, n);
	} else if (IS("null")) {
		snprintf(out, size, "%d", (int)((device_u32 *)call)(devices[a], NULL));
	} else if (IS("u32")) {
		r = ((device_u32 *)call)(devices[a], &n);
		snprintf(out, size, "%d %u", r, n);
	} else if (IS("u64")) {
		r = ((device_u64 *)call)(devices[a], &big);
		snprintf(out, size, "%d %llu", r, big);
	} else if (IS("pair")) {
		r = ((device_pair *)call)(devices[a], &n, &m);
		snprintf(out, size, "%d %u %u", r, n, m);
	} else if (IS("index")) {
		snprintf(out, size, "%d", (int)((by_index *)call)(a, &devices[b]));
	} else if (IS("uuid")) {
		sscanf(line, "%*s %*s %95s %u", text, &b);
		snprintf(out, size, "%d", (int)((by_uuid *)call)(text, &devices[b]));
	} else if (IS("temperature")) {
		r = ((temperature *)call)(devices[a], b, &n);
		snprintf(out, size, "%d %u", r, n);
	} else if (IS("temperature_v")) {
		nvmlTemperature_t t = {b ? b : nvmlTemperature_v1, NVML_TEMPERATURE_GPU, 0};
		r = ((device_struct *)call)(devices[a], &t);
		snprintf(out, size, "%d %d", r, t.temperature);
	} else if (IS("memory")) {
		nvmlMemory_t mem = {0};
		r = ((device_struct *)call)(devices[a], &mem);
		snprintf(out, size, "%d %llu %llu %llu", r, mem.total, mem.free, mem.used);
	} else if (IS("memory_v2")) {
		nvmlMemory_v2_t mem = {.version = b ? b : nvmlMemory_v2};
		r = ((device_struct *)call)(devices[a], &mem);
		snprintf(out, size, "%d %llu %llu %llu %llu", r, mem.total, mem.reserved, mem.free, mem.used);
	} else if (IS("pci")) {
		nvmlPciInfo_t pci = {.busId = "untouched"};
		r = ((device_struct *)call)(devices[a], &pci);
		snprintf(out, size, "%d %s %u %s", r, pci.busIdLegacy, pci.bus, pci.busId);
	} else if (IS("ecc_total")) {
		r = ((ecc_total *)call)(devices[a], (int)b, (int)c, &big);
		snprintf(out, size, "%d %llu", r, big);
	} else if (IS("ecc_at")) {
		r = ((ecc_at *)call)(devices[a], (int)b, NVML_VOLATILE_ECC, (int)c, &big);
		snprintf(out, size, "%d %llu", r, big);
	} else if (IS("processes")) {
		list(out, size, call, a, b, !strstr(function, "_v"), (int)c);
	} else if (IS("set")) {
		snprintf(out, size, "%d", (int)((new_set *)call)(&sets[a]));
	} else if (IS("free")) {
		snprintf(out, size, "%d", (int)((old_set *)call)(sets[a]));
	} else if (IS("register")) {
		snprintf(out, size, "%d", (int)((register_set *)call)(devices[a], b, sets[c]));
	} else if (IS("wait")) {
		nvmlEventData_t e = {.gpuInstanceId = 7, .computeInstanceId = 7};
		r = ((wait_set *)call)(sets[a], &e, b);
		if (r == NVML_SUCCESS)
			snprintf(out, size, "%d %llu:%llu %x %s", r, e.eventType, e.eventData, e.gpuInstanceId & e.computeInstanceId, e.device == devices[c] ? "same" : "other");
		else
			snprintf(out, size, "%d", r);
	} else {
		snprintf(out, size, "no such kind: %s", kind);
	}
}

static void *aside(void *line)
{
	char out[4096];
	answer(out, sizeof out, line);
	printf("& %s\n", out);
	free(line);
	return NULL;
}

int main(void)
{
	library = dlopen("libnvidia-ml.so.1", RTLD_LAZY | RTLD_GLOBAL);
	if (!library) {
		puts(dlerror());
		return 1;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	char line[256], out[4096];
	while (fgets(line, sizeof line, stdin)) {
		pthread_t thread;
		if (!strncmp(line, "& ", 2)) {
			pthread_create(&thread, NULL, aside, strdup(line + 2));
			pthread_detach(thread);
			continue;
		}
		answer(out, sizeof out, line);
		puts(out);
	}
	return 0;
}
