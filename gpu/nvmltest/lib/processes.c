#include "processes.h"

static bool listed(const struct process *p, enum kind kind)
{
	return kind != mps && p->graphics == (kind == graphics);
}

nvmlReturn_t list_processes(const char *function, nvmlDevice_t device, enum kind kind, unsigned int *count, void *infos, bool v2)
{
	struct query q;
	nvmlReturn_t result = begin_device(&q, function, device);
	if (result != NVML_SUCCESS)
		return end(&q, result);
	if (!count)
		return end(&q, NVML_ERROR_INVALID_ARGUMENT);
	unsigned int n = 0, room = *count;
	for (int i = 0; i < q.gpu->n_processes; i++)
		n += listed(&q.gpu->processes[i], kind);
	*count = n;
	if (n > room)
		return end(&q, NVML_ERROR_INSUFFICIENT_SIZE);
	if (n && !infos)
		return end(&q, NVML_ERROR_INVALID_ARGUMENT);
	n = 0;
	for (int i = 0; i < q.gpu->n_processes; i++) {
		const struct process *p = &q.gpu->processes[i];
		if (!listed(p, kind))
			continue;
		if (v2)
			((nvmlProcessInfo_v2_t *)infos)[n] = (nvmlProcessInfo_v2_t){p->pid, p->used, 0xffffffff, 0xffffffff};
		else
			((nvmlProcessInfo_v1_t *)infos)[n] = (nvmlProcessInfo_v1_t){p->pid, p->used};
		n++;
	}
	return end(&q, NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v1_t *infos)
{
	return list_processes(__func__, device, compute, count, infos, false);
}

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v1_t *infos)
{
	return list_processes(__func__, device, graphics, count, infos, false);
}
