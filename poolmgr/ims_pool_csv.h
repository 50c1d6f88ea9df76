/*
 * Copyright (C) nginx-ims contributors
 *
 * A strict reader of CSV (RFC 4180) over a text in memory.
 *
 * Fields are separated by commas; a field in double quotes may hold commas,
 * line ends and, doubled, quotes.  Lines end by CRLF or LF, the last one too
 * if it likes.  A quote within an unquoted field, anything behind a closing
 * quote, a bare CR, a NUL, an empty line and an open quote at the end are
 * errors: what such a line meant is anybody's guess.
 */

#ifndef _IMS_POOL_CSV_H_INCLUDED_
#define _IMS_POOL_CSV_H_INCLUDED_


#include "base/ims_str.h"


#define IMS_CSV_FIELDS   32
#define IMS_CSV_ROW      8192       /* bytes of a row's fields in all */


typedef struct {
    const char     *error;          /* after -1: a fixed text */
    uint64_t        line;           /* where the row (or the fault) begins */
    unsigned        n;
    ims_str_t       field[IMS_CSV_FIELDS];

    const uint8_t  *row;            /* its first byte */

    /* private */
    const uint8_t  *p;
    const uint8_t  *end;
    uint64_t        next;
    size_t          used;
    uint8_t         buf[IMS_CSV_ROW];
} ims_csv_t;


/* text must live as long as csv; a byte order mark at its head is skipped */
void ims_csv_init(ims_csv_t *csv, ims_str_t text);

/*
 * 1: n fields, unquoted, valid until the next call (csv must not be copied);
 * 0: no more rows; -1: error, again and again until ims_csv_skip().
 */
int ims_csv_next(ims_csv_t *csv);

/*
 * After an error: goes on behind the line in which the row began, whatever was
 * meant by it.
 */
void ims_csv_skip(ims_csv_t *csv);

/* The next row is the one that began there, in that line. */
void ims_csv_seek(ims_csv_t *csv, const uint8_t *row, uint64_t line);


#endif /* _IMS_POOL_CSV_H_INCLUDED_ */
