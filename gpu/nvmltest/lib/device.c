/* What every driver since about 2018 has of the system's and the devices' queries. */
#include "query.h"

#include <stdio.h>
#include <string.h>

/* Devices are counted and numbered without the missing ones. */
static int slot_at(const struct figures *f, unsigned int index)
{
	for (int slot = 0; slot < max_gpus; slot++)
		if (f->gpus[slot].present && !f->gpus[slot].missing && index-- == 0)
			return slot;
	return -1;
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length)
{
	struct query q;
	nvmlReturn_t result = begin_system(&q, __func__);
	if (result == NVML_SUCCESS)
		result = put_string(version, length, q.figures->driver);
	return end(&q, result);
}

nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned int length)
{
	struct query q;
	nvmlReturn_t result = begin_system(&q, __func__);
	char text[96];
	snprintf(text, sizeof text, "%d.%s", q.figures->cuda / 1000, q.figures->driver);
	if (result == NVML_SUCCESS)
		result = put_string(version, length, text);
	return end(&q, result);
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version)
{
	struct query q;
	/* CUDA's version can be asked of a library that is not initialized. */
	begin(&q, __func__);
	if (!version)
		return end(&q, NVML_ERROR_INVALID_ARGUMENT);
	*version = q.figures->cuda;
	return end(&q, NVML_SUCCESS);
}

nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char *name, unsigned int length)
{
	struct query q;
	nvmlReturn_t result = begin_system(&q, __func__);
	if (result != NVML_SUCCESS)
		return end(&q, result);
	char path[64], text[4096] = "";
	snprintf(path, sizeof path, "/proc/%u/cmdline", pid);
	FILE *file = fopen(path, "re");
	if (!file)
		return end(&q, NVML_ERROR_NOT_FOUND);
	/* The arguments are separated by zeros: the text ends with the program. */
	text[fread(text, 1, sizeof text - 1, file)] = 0;
	fclose(file);
	return end(&q, put_string(name, length, text));
}

static nvmlReturn_t count_devices(const char *function, unsigned int *count)
{
	struct query q;
	nvmlReturn_t result = begin_system(&q, function);
	if (result == NVML_SUCCESS && !count)
		result = NVML_ERROR_INVALID_ARGUMENT;
	if (result == NVML_SUCCESS)
		for (*count = 0; slot_at(q.figures, *count) >= 0; ++*count)
			;
	return end(&q, result);
}

nvmlReturn_t nvmlDeviceGetCount(unsigned int *count) { return count_devices(__func__, count); }
nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) { return count_devices(__func__, count); }

static nvmlReturn_t handle(const struct figures *f, int slot, nvmlDevice_t *device)
{
	if (f->gpus[slot].lost)
		return NVML_ERROR_GPU_IS_LOST;
	*device = device_of(slot);
	return NVML_SUCCESS;
}

static nvmlReturn_t handle_by_index(const char *function, unsigned int index, nvmlDevice_t *device)
{
	struct query q;
	nvmlReturn_t result = begin_system(&q, function);
	if (result != NVML_SUCCESS)
		return end(&q, result);
	int slot = slot_at(q.figures, index);
	if (slot < 0 || !device)
		return end(&q, NVML_ERROR_INVALID_ARGUMENT);
	return end(&q, handle(q.figures, slot, device));
}

nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t *device) { return handle_by_index(__func__, index, device); }
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) { return handle_by_index(__func__, index, device); }

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
	struct query q;
	nvmlReturn_t result = begin_system(&q, __func__);
	if (result != NVML_SUCCESS)
		return end(&q, result);
	if (!uuid || !device)
		return end(&q, NVML_ERROR_INVALID_ARGUMENT);
	for (int slot, i = 0; (slot = slot_at(q.figures, (unsigned int)i)) >= 0; i++)
		if (!strcmp(q.figures->gpus[slot].uuid, uuid))
			return end(&q, handle(q.figures, slot, device));
	return end(&q, NVML_ERROR_NOT_FOUND);
}

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *index)
{
	struct query q;
	nvmlReturn_t result = begin_device(&q, __func__, device);
	if (result == NVML_SUCCESS && !index)
		result = NVML_ERROR_INVALID_ARGUMENT;
	if (result == NVML_SUCCESS)
		for (*index = 0; slot_at(q.figures, *index) != q.slot; ++*index)
			;
	return end(&q, result);
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length)
{
	struct query q;
	nvmlReturn_t result = begin_device(&q, __func__, device);
	if (result == NVML_SUCCESS)
		result = put_string(uuid, length, q.gpu->uuid);
	return end(&q, result);
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length)
{
	struct query q;
	nvmlReturn_t result = begin_device(&q, __func__, device);
	if (result == NVML_SUCCESS)
		result = put_string(name, length, q.gpu->name);
	return end(&q, result);
}

/* Before v3 the struct was shorter: what follows its last field is the caller's. */
static nvmlReturn_t pci_info(const char *function, nvmlDevice_t device, nvmlPciInfo_t *pci, bool v3)
{
	struct query q;
	nvmlReturn_t result = begin_device(&q, function, device);
	if (result == NVML_SUCCESS && !pci)
		result = NVML_ERROR_INVALID_ARGUMENT;
	if (result != NVML_SUCCESS)
		return end(&q, result);
	pci->domain = 0;
	pci->bus = (unsigned int)q.slot + 1;
	pci->device = 0;
	pci->pciDeviceId = 0x268410de;
	snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "0000:%02X:00.0", pci->bus & 0xff);
	if (v3) {
		pci->pciSubSystemId = 0;
		snprintf(pci->busId, sizeof pci->busId, "00000000:%02X:00.0", pci->bus & 0xff);
	}
	return end(&q, NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_t *pci) { return pci_info(__func__, device, pci, false); }
nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_t *pci) { return pci_info(__func__, device, pci, false); }
nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci) { return pci_info(__func__, device, pci, true); }

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
	struct query q;
	nvmlReturn_t result = begin_device(&q, __func__, device);
	if (result == NVML_SUCCESS && !memory)
		result = NVML_ERROR_INVALID_ARGUMENT;
	if (result == NVML_SUCCESS) {
		memory->total = q.gpu->total;
		memory->used = q.gpu->used + q.gpu->reserved; /* v2 tells them apart */
		memory->free = memory->total - memory->used;
	}
	return end(&q, result);
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization)
{
	struct query q;
	nvmlReturn_t result = begin_device(&q, __func__, device);
	if (result == NVML_SUCCESS && q.gpu->mig)
		result = NVML_ERROR_NOT_SUPPORTED;
	if (result == NVML_SUCCESS && !utilization)
		result = NVML_ERROR_INVALID_ARGUMENT;
	if (result == NVML_SUCCESS) {
		utilization->gpu = (unsigned int)q.gpu->utilization;
		utilization->memory = (unsigned int)q.gpu->memory_utilization;
	}
	return end(&q, result);
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor, unsigned int *temperature)
{
	struct query q;
	nvmlReturn_t result = begin_device(&q, __func__, device);
	if (result == NVML_SUCCESS && (!temperature || sensor != NVML_TEMPERATURE_GPU))
		result = NVML_ERROR_INVALID_ARGUMENT;
	if (result == NVML_SUCCESS)
		*temperature = (unsigned int)q.gpu->temperature;
	return end(&q, result);
}

/* A query of one 32-bit figure of a device. */
#define FIGURE(function, figure)                                                  \
	nvmlReturn_t function(nvmlDevice_t device, unsigned int *value)           \
	{                                                                         \
		struct query q;                                                   \
		nvmlReturn_t result = begin_device(&q, __func__, device);         \
		if (result == NVML_SUCCESS && !value)                             \
			result = NVML_ERROR_INVALID_ARGUMENT;                     \
		if (result == NVML_SUCCESS)                                       \
			*value = (unsigned int)q.gpu->figure;                     \
		return end(&q, result);                                           \
	}
FIGURE(nvmlDeviceGetPowerUsage, power)
FIGURE(nvmlDeviceGetEnforcedPowerLimit, power_limit)
FIGURE(nvmlDeviceGetPowerManagementLimit, power_limit)
FIGURE(nvmlDeviceGetPcieReplayCounter, replays)

nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, unsigned long long *reasons)
{
	struct query q;
	nvmlReturn_t result = begin_device(&q, __func__, device);
	if (result == NVML_SUCCESS && !reasons)
		result = NVML_ERROR_INVALID_ARGUMENT;
	if (result == NVML_SUCCESS)
		*reasons = q.gpu->throttle;
	return end(&q, result);
}

static nvmlReturn_t ecc_errors(const char *function, nvmlDevice_t device, int type, int counter, int location, unsigned long long *count)
{
	struct query q;
	nvmlReturn_t result = begin_device(&q, function, device);
	if (result == NVML_SUCCESS &&
	    (!count || type < 0 || type >= NVML_MEMORY_ERROR_TYPE_COUNT || counter < 0 || counter >= NVML_ECC_COUNTER_TYPE_COUNT ||
	     location < 0 || location >= NVML_MEMORY_LOCATION_COUNT))
		result = NVML_ERROR_INVALID_ARGUMENT;
	if (result == NVML_SUCCESS) {
		bool here = type == NVML_MEMORY_ERROR_TYPE_UNCORRECTED && location == NVML_MEMORY_LOCATION_DEVICE_MEMORY;
		*count = here ? q.gpu->ecc : 0;
	}
	return end(&q, result);
}

nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type, nvmlEccCounterType_t counter, unsigned long long *count)
{
	return ecc_errors(__func__, device, (int)type, (int)counter, NVML_MEMORY_LOCATION_DEVICE_MEMORY, count);
}

nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device, nvmlMemoryErrorType_t type, nvmlEccCounterType_t counter, nvmlMemoryLocation_t location, unsigned long long *count)
{
	return ecc_errors(__func__, device, (int)type, (int)counter, (int)location, count);
}

nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, nvmlEnableState_t *current, nvmlEnableState_t *pending)
{
	struct query q;
	nvmlReturn_t result = begin_device(&q, __func__, device);
	if (result == NVML_SUCCESS && (!current || !pending))
		result = NVML_ERROR_INVALID_ARGUMENT;
	if (result == NVML_SUCCESS)
		*current = *pending = NVML_FEATURE_ENABLED;
	return end(&q, result);
}
