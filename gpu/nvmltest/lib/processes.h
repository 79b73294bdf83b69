#ifndef NVMLTEST_PROCESSES_H
#define NVMLTEST_PROCESSES_H

#include "query.h"

enum kind { compute, graphics, mps };

/* Lists a GPU's processes; infos is an array of nvmlProcessInfo_v1_t, or of _v2_t. */
nvmlReturn_t list_processes(const char *function, nvmlDevice_t device, enum kind kind, unsigned int *count, void *infos, bool v2);

#endif
