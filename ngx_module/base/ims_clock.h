/*
 * Copyright (C) nginx-ims contributors
 *
 * Clocks.  Everything that decides about a lease uses pool time, which is
 * computed from CLOCK_BOOTTIME (POOL.md section 2); the wall clock is for JWT
 * times, history and display only.
 */

#ifndef _IMS_CLOCK_H_INCLUDED_
#define _IMS_CLOCK_H_INCLUDED_


#include <stdint.h>
#include <time.h>


static inline uint64_t
ims_clock_ms(clockid_t id)
{
    struct timespec  ts;

    clock_gettime(id, &ts);

    return (uint64_t) ts.tv_sec * 1000 + (uint64_t) ts.tv_nsec / 1000000;
}


/* ms since boot, suspended time included; never steps back */
static inline uint64_t
ims_boottime_ms(void)
{
    return ims_clock_ms(CLOCK_BOOTTIME);
}


/* ms since 1970; steps as the administrator pleases */
static inline uint64_t
ims_wall_ms(void)
{
    return ims_clock_ms(CLOCK_REALTIME);
}


#endif /* _IMS_CLOCK_H_INCLUDED_ */
