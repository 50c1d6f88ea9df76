/*
 * Copyright (C) nginx-ims contributors
 *
 * ims-poolctl import: where rows come from, a CSV file or ranges.
 */

#ifndef _CTL_SOURCE_H_INCLUDED_
#define _CTL_SOURCE_H_INCLUDED_


#include "ctl.h"
#include "ims_pool_csv.h"
#include "ims_pool_writer.h"


typedef struct ctl_source_s  ctl_source_t;

struct ctl_source_s {
    const char           *name;         /* for messages */

    /* 1: a row, 0: no more, -1: a fault, of which error and line tell */
    int                 (*next)(ctl_source_t *src);

    /* the next row is the one that was at `at`, or the one after a fault */
    void                (*seek)(ctl_source_t *src, uint64_t at, uint64_t line);
    void                (*skip)(ctl_source_t *src);

    uint64_t              line;         /* of row, and where it is */
    uint64_t              at;
    ims_pool_identity_t   row;          /* valid until the next call */
    char                  error[128];

    uint64_t              done;         /* of size, for the progress */
    uint64_t              size;

    /* CSV */
    ims_str_t             text;
    ims_csv_t             csv;
    int                   impi;         /* column, -1: none */
    int                   display;
    unsigned              columns;

    /* ranges: IMPUs, then IMPI and (if it is wanted) display name */
    ims_pool_range_t      range[CTL_RANGES + 2];
    unsigned              nrange;
    unsigned              npattern;
    uint32_t              count;
    uint32_t              i;
    char                  impi_text[IMS_POOL_URI_MAX + 1];
    uint8_t               buf[CTL_RANGES + 2][IMS_POOL_URI_MAX];
};


/*
 * A file ("-": standard input) with its header read, or the ranges that were
 * asked for.  CTL_OK, or the exit status after a message.
 */
int ctl_source_csv(ctl_source_t *src, const char *path);
int ctl_source_range(ctl_t *ctl, ctl_source_t *src);
void ctl_source_free(ctl_source_t *src);


#endif /* _CTL_SOURCE_H_INCLUDED_ */
