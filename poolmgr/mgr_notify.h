/*
 * Copyright (C) nginx-ims contributors
 *
 * What init is told (sd_notify(3), whose protocol is a datagram of lines to
 * the socket named by NOTIFY_SOCKET).  Without that variable nothing is done:
 * errors are of no concern to the daemon.
 */

#ifndef _MGR_NOTIFY_H_INCLUDED_
#define _MGR_NOTIFY_H_INCLUDED_


#include <stdint.h>


/* "READY=1", "STOPPING=1", ... */
void mgr_notify(const char *state);

/* The configuration is being read anew; "READY=1" ends it. */
void mgr_notify_reloading(void);

/*
 * Each second, by the event loop that the clients wait for: one that stands
 * still says nothing.  Speaks at half of the time that init waits
 * (WATCHDOG_USEC), or never if it does not wait for this process.
 */
void mgr_notify_alive(uint64_t now_ms);


#endif /* _MGR_NOTIFY_H_INCLUDED_ */
