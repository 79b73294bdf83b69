#include "query.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t state = PTHREAD_MUTEX_INITIALIZER;
static int inits;

/*
 * A handle is the address of a byte here, of which nothing is ever read: so any
 * pointer can be judged. A row serves from one nvmlInit to its nvmlShutdown.
 */
enum { generations = 1 << 16 };
static char handles[generations][max_gpus];
static unsigned int generation;

/* A program that unloads and loads the library gets another row, most likely. */
__attribute__((constructor)) static void first_generation(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	generation = (unsigned int)now.tv_nsec % generations;
}

void state_lock(void) { pthread_mutex_lock(&state); }
void state_unlock(void) { pthread_mutex_unlock(&state); }
bool state_initialized(void) { return inits > 0; }

static nvmlReturn_t initialize(const char *function)
{
	struct query q;
	begin(&q, function);
	if (q.figures->init == NVML_SUCCESS) {
		state_lock();
		if (inits++ == 0)
			generation = (generation + 1) % generations;
		state_unlock();
	}
	return end(&q, q.figures->init);
}

nvmlReturn_t nvmlInit(void) { return initialize(__func__); }
nvmlReturn_t nvmlInit_v2(void) { return initialize(__func__); }

nvmlReturn_t nvmlInitWithFlags(unsigned int flags)
{
	(void)flags;
	return initialize(__func__);
}

nvmlReturn_t nvmlShutdown(void)
{
	struct query q;
	begin(&q, __func__);
	state_lock();
	nvmlReturn_t result = inits > 0 ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
	if (inits > 0 && --inits == 0)
		events_forget();
	state_unlock();
	return end(&q, result);
}

/* It does not call the driver, so it neither hangs nor is logged. */
const char *nvmlErrorString(nvmlReturn_t result) { return error_text(result); }

nvmlDevice_t device_of(int slot)
{
	state_lock();
	nvmlDevice_t device = (nvmlDevice_t)&handles[generation][slot];
	state_unlock();
	return device;
}

static int slot_of(nvmlDevice_t device)
{
	uintptr_t address = (uintptr_t)device;
	state_lock();
	uintptr_t first = (uintptr_t)handles[generation];
	state_unlock();
	return address >= first && address < first + max_gpus ? (int)(address - first) : -1;
}

static void note_call(const struct figures *f, const char *function)
{
	if (!*f->call_log)
		return;
	int file = open(f->call_log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	/* One write, so that lines of two threads never mix. */
	if (file < 0 || dprintf(file, "%s\n", function) < 0)
		perror("nvmltest: note the call");
	if (file >= 0)
		close(file);
}

void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
}

void refresh(struct query *q)
{
	free(q->figures);
	q->figures = figures_read();
}

void begin(struct query *q, const char *function)
{
	*q = (struct query){.figures = figures_read(), .slot = -1};
	note_call(q->figures, function);
	while (figures_mean(q->figures->hang, function)) {
		nap();
		refresh(q);
	}
}

nvmlReturn_t begin_system(struct query *q, const char *function)
{
	begin(q, function);
	state_lock();
	bool ready = state_initialized();
	state_unlock();
	return ready ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
}

nvmlReturn_t begin_device(struct query *q, const char *function, nvmlDevice_t device)
{
	nvmlReturn_t result = begin_system(q, function);
	if (result != NVML_SUCCESS)
		return result;
	q->slot = slot_of(device);
	if (q->slot < 0)
		return NVML_ERROR_INVALID_ARGUMENT;
	q->gpu = &q->figures->gpus[q->slot];
	/* A program that has a handle of a GPU that is gone has seen it: the GPU is lost. */
	if (q->gpu->lost || q->gpu->missing || !q->gpu->present)
		return NVML_ERROR_GPU_IS_LOST;
	for (int i = 0; i < q->gpu->n_unsupported; i++)
		if (figures_mean(q->gpu->unsupported[i], function))
			return NVML_ERROR_NOT_SUPPORTED;
	return NVML_SUCCESS;
}

nvmlReturn_t end(struct query *q, nvmlReturn_t result)
{
	free(q->figures);
	q->figures = NULL;
	return result;
}

nvmlReturn_t put_string(char *to, unsigned int length, const char *text)
{
	if (!to)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (strlen(text) >= length)
		return NVML_ERROR_INSUFFICIENT_SIZE;
	strcpy(to, text);
	return NVML_SUCCESS;
}
