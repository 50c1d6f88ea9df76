/*
 * Copyright (C) nginx-ims contributors
 *
 * The daemon's log: one line an event to standard error.  Pools and leases
 * are named in it; users, secrets and bytes of a client's command never are.
 */

#ifndef _MGR_LOG_H_INCLUDED_
#define _MGR_LOG_H_INCLUDED_


typedef enum {
    MGR_LOG_EMERG = 0,
    MGR_LOG_ALERT,
    MGR_LOG_ERR,
    MGR_LOG_WARN,
    MGR_LOG_NOTICE,
    MGR_LOG_INFO,
    MGR_LOG_DEBUG
} mgr_log_level_t;


/* "emerg" ... "debug"; -1 if there is no such level */
int mgr_log_level(const char *name);
void mgr_log_set(mgr_log_level_t max);
int mgr_log_on(mgr_log_level_t level);

void mgr_log(mgr_log_level_t level, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));


#endif /* _MGR_LOG_H_INCLUDED_ */
