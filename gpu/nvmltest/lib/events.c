/*
 * Xids. As in NVML, an Xid from before a GPU was registered is not reported, so a set
 * stores the last sequence number of each GPU at that time.
 */
#include "events.h"

#include <string.h>
#include <time.h>

static const unsigned long long supported = nvmlEventTypeXidCriticalError | nvmlEventTypeDoubleBitEccError | nvmlEventTypeSingleBitEccError;

enum { max_sets = 256 };
static struct event_set {
	bool open;
	unsigned long long types[max_gpus]; /* 0: not registered */
	uint64_t before[max_gpus];
} sets[max_sets];

/* The last sequence number that any set has reported, by GPU. */
static uint64_t reported[max_gpus];

void events_forget(void) { memset(sets, 0, sizeof sets); }

/* The set of a handle, or NULL; the caller holds the state's lock. */
static struct event_set *set_of(nvmlEventSet_t handle)
{
	for (int i = 0; i < max_sets; i++)
		if ((void *)&sets[i] == *(void **)&handle && sets[i].open)
			return &sets[i];
	return NULL;
}

nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set)
{
	struct query q;
	nvmlReturn_t result = begin_system(&q, __func__);
	if (result == NVML_SUCCESS && !set)
		result = NVML_ERROR_INVALID_ARGUMENT;
	if (result != NVML_SUCCESS)
		return end(&q, result);
	result = NVML_ERROR_INSUFFICIENT_RESOURCES;
	state_lock();
	for (int i = 0; i < max_sets && result != NVML_SUCCESS; i++) {
		if (sets[i].open)
			continue;
		sets[i] = (struct event_set){.open = true};
		*set = (nvmlEventSet_t)&sets[i];
		result = NVML_SUCCESS;
	}
	state_unlock();
	return end(&q, result);
}

nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t handle)
{
	struct query q;
	nvmlReturn_t result = begin_system(&q, __func__);
	if (result != NVML_SUCCESS)
		return end(&q, result);
	state_lock();
	struct event_set *set = set_of(handle);
	if (set)
		set->open = false;
	state_unlock();
	return end(&q, set ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT);
}

nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *types)
{
	struct query q;
	nvmlReturn_t result = begin_device(&q, __func__, device);
	if (result == NVML_SUCCESS && !types)
		result = NVML_ERROR_INVALID_ARGUMENT;
	if (result == NVML_SUCCESS)
		*types = supported;
	return end(&q, result);
}

nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types, nvmlEventSet_t handle)
{
	struct query q;
	nvmlReturn_t result = begin_device(&q, __func__, device);
	if (result == NVML_SUCCESS && !types)
		result = NVML_ERROR_INVALID_ARGUMENT;
	if (result == NVML_SUCCESS && (types & ~supported))
		result = NVML_ERROR_NOT_SUPPORTED;
	if (result != NVML_SUCCESS)
		return end(&q, result);
	state_lock();
	struct event_set *set = set_of(handle);
	if (set && !set->types[q.slot])
		for (int i = 0; i < q.gpu->n_xids; i++)
			if (q.gpu->xids[i].seq > set->before[q.slot])
				set->before[q.slot] = q.gpu->xids[i].seq;
	if (set)
		set->types[q.slot] |= types;
	state_unlock();
	return end(&q, set ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT);
}

/* The first Xid of a GPU that is to be reported, or NULL; the caller holds the lock. */
static const struct xid *pending(const struct figures *f, const struct event_set *set, int slot)
{
	const struct xid *first = NULL;
	if (!(set->types[slot] & nvmlEventTypeXidCriticalError))
		return NULL;
	for (int i = 0; i < f->gpus[slot].n_xids; i++) {
		const struct xid *x = &f->gpus[slot].xids[i];
		if (x->seq > set->before[slot] && x->seq > reported[slot] && (!first || x->seq < first->seq))
			first = x;
	}
	return first;
}

/* Checks for an event; NVML_ERROR_TIMEOUT = there is none. */
static nvmlReturn_t poll_event(const struct figures *f, nvmlEventSet_t handle, int *slot, uint64_t *code)
{
	if (!state_initialized())
		return NVML_ERROR_UNINITIALIZED;
	struct event_set *set = set_of(handle);
	if (!set)
		return NVML_ERROR_INVALID_ARGUMENT;
	nvmlReturn_t none = NVML_ERROR_TIMEOUT;
	for (*slot = 0; *slot < max_gpus; ++*slot) {
		const struct xid *x = pending(f, set, *slot);
		if (x) {
			reported[*slot] = x->seq;
			*code = x->code;
			return NVML_SUCCESS;
		}
		if (set->types[*slot] && (f->gpus[*slot].lost || f->gpus[*slot].missing))
			none = NVML_ERROR_GPU_IS_LOST;
	}
	return none;
}

static long long now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

nvmlReturn_t wait_for_event(const char *function, nvmlEventSet_t set, nvmlEventData_t *data, unsigned int milliseconds, bool v2)
{
	struct query q;
	nvmlReturn_t result = begin_system(&q, function);
	if (result == NVML_SUCCESS && !data)
		result = NVML_ERROR_INVALID_ARGUMENT;
	if (result != NVML_SUCCESS)
		return end(&q, result);
	int slot = 0;
	uint64_t code = 0;
	for (long long deadline = now_ms() + milliseconds;;) {
		state_lock();
		result = poll_event(q.figures, set, &slot, &code);
		state_unlock();
		if (result != NVML_ERROR_TIMEOUT || now_ms() >= deadline)
			break;
		nap();
		do /* it may begin to hang while it waits */
			refresh(&q);
		while (figures_mean(q.figures->hang, function) && (nap(), true));
	}
	if (result == NVML_SUCCESS) {
		data->device = device_of(slot);
		data->eventType = nvmlEventTypeXidCriticalError;
		data->eventData = code;
		if (v2)
			data->gpuInstanceId = data->computeInstanceId = 0xffffffff;
	}
	return end(&q, result);
}

nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int milliseconds)
{
	return wait_for_event(__func__, set, data, milliseconds, false);
}
