/*
 * The common part of all functions: each reads the file again, hangs if the file
 * says so, and checks that the library is initialized and that the GPU exists.
 */
#ifndef NVMLTEST_QUERY_H
#define NVMLTEST_QUERY_H

#include "figures.h"

struct query {
	struct figures *figures;
	const struct gpu *gpu; /* of a device's query that began well */
	int slot;              /* its N in the file */
};

/* begin reads the figures, begin_system also wants nvmlInit, begin_device also a GPU. */
void begin(struct query *q, const char *function);
nvmlReturn_t begin_system(struct query *q, const char *function);
nvmlReturn_t begin_device(struct query *q, const char *function, nvmlDevice_t device);

/* Every begin needs its end, which hands the result on. */
nvmlReturn_t end(struct query *q, nvmlReturn_t result);

/* Reads the figures again, for a function that waits for a change. */
void refresh(struct query *q);
void nap(void);

/* The handle of a slot; valid until the last nvmlShutdown. */
nvmlDevice_t device_of(int slot);

nvmlReturn_t put_string(char *to, unsigned int length, const char *text);

/* Forgets all event sets, for nvmlShutdown; the caller holds the state's lock. */
void events_forget(void);

void state_lock(void);
void state_unlock(void);
bool state_initialized(void); /* the caller holds the lock */

#endif
