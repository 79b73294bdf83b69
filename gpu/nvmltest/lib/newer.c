/*
 * What drivers learned after 2018: the variant OldDriver is built without this
 * file, so that its symbols are missing, as a caller finds them on such a driver.
 * The driver families are those that first had a function, as far as is known.
 */
#include "events.h"
#include "processes.h"

/* R410 */
nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version)
{
	struct query q;
	begin(&q, __func__);
	if (!version)
		return end(&q, NVML_ERROR_INVALID_ARGUMENT);
	*version = q.figures->cuda;
	return end(&q, NVML_SUCCESS);
}

/* R450, with MIG */
nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int milliseconds)
{
	return wait_for_event(__func__, set, data, milliseconds, true);
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending)
{
	struct query q;
	nvmlReturn_t result = begin_device(&q, __func__, device);
	if (result == NVML_SUCCESS && !q.gpu->mig)
		result = NVML_ERROR_NOT_SUPPORTED; /* as on cards that cannot be cut */
	if (result == NVML_SUCCESS && (!current || !pending))
		result = NVML_ERROR_INVALID_ARGUMENT;
	if (result == NVML_SUCCESS)
		*current = *pending = 1;
	return end(&q, result);
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int *count)
{
	struct query q;
	nvmlReturn_t result = begin_device(&q, __func__, device);
	if (result == NVML_SUCCESS && !count)
		result = NVML_ERROR_INVALID_ARGUMENT;
	if (result == NVML_SUCCESS)
		*count = q.gpu->mig ? 7 : 0;
	return end(&q, result);
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v2_t *infos)
{
	return list_processes(__func__, device, compute, count, infos, true);
}

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v2(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v2_t *infos)
{
	return list_processes(__func__, device, graphics, count, infos, true);
}

nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v1_t *infos)
{
	return list_processes(__func__, device, mps, count, infos, false);
}

nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses_v2(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v2_t *infos)
{
	return list_processes(__func__, device, mps, count, infos, true);
}

/* R510 */
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *infos)
{
	return list_processes(__func__, device, compute, count, infos, true);
}

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *infos)
{
	return list_processes(__func__, device, graphics, count, infos, true);
}

nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *infos)
{
	return list_processes(__func__, device, mps, count, infos, true);
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
	struct query q;
	nvmlReturn_t result = begin_device(&q, __func__, device);
	if (result == NVML_SUCCESS && !memory)
		result = NVML_ERROR_INVALID_ARGUMENT;
	if (result == NVML_SUCCESS && memory->version != nvmlMemory_v2)
		result = NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	if (result == NVML_SUCCESS) {
		memory->total = q.gpu->total;
		memory->reserved = q.gpu->reserved;
		memory->used = q.gpu->used;
		memory->free = memory->total - memory->reserved - memory->used;
	}
	return end(&q, result);
}

/* R535, where the throttle reasons became event reasons */
nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, unsigned long long *reasons)
{
	struct query q;
	nvmlReturn_t result = begin_device(&q, __func__, device);
	if (result == NVML_SUCCESS && !reasons)
		result = NVML_ERROR_INVALID_ARGUMENT;
	if (result == NVML_SUCCESS)
		*reasons = q.gpu->throttle;
	return end(&q, result);
}

/* R570 */
nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *temperature)
{
	struct query q;
	nvmlReturn_t result = begin_device(&q, __func__, device);
	if (result == NVML_SUCCESS && !temperature)
		result = NVML_ERROR_INVALID_ARGUMENT;
	if (result == NVML_SUCCESS && temperature->version != nvmlTemperature_v1)
		result = NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	if (result == NVML_SUCCESS && temperature->sensorType != NVML_TEMPERATURE_GPU)
		result = NVML_ERROR_INVALID_ARGUMENT;
	if (result == NVML_SUCCESS)
		temperature->temperature = (int)q.gpu->temperature;
	return end(&q, result);
}
