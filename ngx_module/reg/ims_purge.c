/*
 * Copyright (C) nginx-ims contributors
 */

#include "reg/ims_purge.h"


static bool
ims_purge_impus(ims_purge_job_t *job, const ims_reply_t *r, unsigned row)
{
    ims_str_t  impu;

    for (job->nimpu = 0; /* void */; job->nimpu++) {

        impu = ims_reply_row_value(r, row, "impu", job->nimpu);

        if (impu.p == NULL) {
            return job->nimpu != 0;
        }

        if (job->nimpu == IMS_POOL_IMPUS) {
            return false;
        }

        job->impu[job->nimpu] = impu;
    }
}


bool
ims_purge_read(ims_purge_job_t *job, const ims_reply_t *r, unsigned row)
{
    uint64_t   id;
    ims_str_t  lease;

    memset(job, 0, sizeof(ims_purge_job_t));

    job->id = ims_reply_row_value(r, row, "purge", 0);
    job->pool = ims_reply_row_value(r, row, "pool", 0);
    job->impi = ims_reply_row_value(r, row, "impi", 0);

    if (job->id.n != IMS_PURGE_ID || !ims_hex_u64(job->id, &id)
        || job->pool.n == 0 || job->impi.n == 0
        || !ims_purge_impus(job, r, row))
    {
        return false;
    }

    lease = ims_reply_row_value(r, row, "lease", 0);

    if (lease.p == NULL
        || (lease.n && !ims_pool_lease_parse(lease, &job->ident,
                                             &job->lease)))
    {
        return false;
    }

    return ims_str_u64(ims_reply_row_value(r, row, "send_by", 0), UINT64_MAX,
                       &job->send_by)
           && ims_str_u64(ims_reply_row_value(r, row, "answer_by", 0),
                          UINT64_MAX, &job->answer_by);
}


static bool
ims_purge_leased(const ims_pool_look_t *look)
{
    const ims_pool_rec_t  *rec;

    rec = &look->rec;

    /* whatever the flags say: a closing lease is a lease */

    return rec->lease > look->fence && look->pt < rec->end;
}


static bool
ims_purge_names(const ims_purge_job_t *job, const ims_pool_names_t *names)
{
    unsigned  i;

    if (!ims_str_eq(job->impi, names->impi) || job->nimpu != names->nimpu) {
        return false;
    }

    for (i = 0; i < job->nimpu; i++) {
        if (!ims_str_eq(job->impu[i], names->impu[i].given)) {
            return false;
        }
    }

    return true;
}


/*
 * What was asked of another core before "since" was asked for ttl_max at
 * most, raised to the core's minimum, and was there D later.
 */

static bool
ims_purge_other_core(const ims_pool_look_t *look, uint64_t now,
    uint64_t since)
{
    uint64_t  longest;

    if (since == 0) {
        return false;
    }

    longest = (uint64_t) look->core_min * 1000;

    if (longest < look->ttl_max) {
        longest = look->ttl_max;
    }

    return now < since || now - since < longest + look->delay;
}


ims_purge_why_e
ims_purge_judge(const ims_purge_job_t *job, const ims_pool_look_t *look,
    const ims_pool_names_t *names, uint64_t now, uint64_t since)
{
    if (now >= job->send_by) {
        return IMS_PURGE_LATE;
    }

    if (look->rec.lease != job->lease) {
        return IMS_PURGE_OTHER;
    }

    if (ims_purge_leased(look)) {
        return IMS_PURGE_LEASED;
    }

    if (!ims_str_eq(job->pool, ims_str_z(look->pool))
        || !ims_purge_names(job, names))
    {
        return IMS_PURGE_NAMES;
    }

    return ims_purge_other_core(look, now, since) ? IMS_PURGE_CORE
                                                  : IMS_PURGE_GO;
}


const char *
ims_purge_why_text(ims_purge_why_e why)
{
    switch (why) {

    case IMS_PURGE_GO:
        return "may be purged";

    case IMS_PURGE_LATE:
        return "too late to send";

    case IMS_PURGE_LEASED:
        return "it is leased";

    case IMS_PURGE_OTHER:
        return "it has another lease";

    case IMS_PURGE_NAMES:
        return "its names are others";

    case IMS_PURGE_CORE:
        return "another core may have registered it";
    }

    return "unknown";
}


const char *
ims_purge_doubt(const ims_sip_msg_t *m)
{
    if (m->status != 200) {
        return "the core refuses";
    }

    if (m->count[IMS_SIP_H_CONTACT]) {
        return "contacts are left";
    }

    return NULL;
}
