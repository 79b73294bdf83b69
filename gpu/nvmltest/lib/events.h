#ifndef NVMLTEST_EVENTS_H
#define NVMLTEST_EVENTS_H

#include "query.h"

/* Before v2 the event ended before the ids of MIG instances. */
nvmlReturn_t wait_for_event(const char *function, nvmlEventSet_t set, nvmlEventData_t *data, unsigned int milliseconds, bool v2);

#endif
