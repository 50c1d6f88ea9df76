/*
 * Copyright (C) nginx-ims contributors
 *
 * What a claim may look like, the same for reading and writing; for the files
 * of token/ only.
 */

#ifndef _IMS_TOKEN_CLAIMS_H_INCLUDED_
#define _IMS_TOKEN_CLAIMS_H_INCLUDED_


#include "token/ims_token.h"


#define IMS_TOKEN_TIME_MAX  253402300799LL      /* the end of the year 9999 */


/* a string claim: its place in ims_token_claims_t and its rule */
typedef struct {
    const char  *name;
    size_t       offset;
    bool         required;
    bool       (*ok)(ims_str_t value);
} ims_token_rule_t;

/* ended by a NULL name; impu, aud, scope are not here: they may be lists */
extern const ims_token_rule_t  ims_token_rules[];


static inline ims_str_t *
ims_token_slot(const ims_token_claims_t *c, const ims_token_rule_t *rule)
{
    return (ims_str_t *) ((uintptr_t) c + rule->offset);
}


/* Strings, impu and times against their rules.  0, or -1 and *err. */
int ims_token_claims_check(const ims_token_claims_t *c, ims_token_err_t *err);

/* Any claim: 1 to IMS_TOKEN_STR_MAX bytes of UTF-8, no control characters. */
bool ims_token_text_ok(ims_str_t value);

/* "<identity hex>-<lease id hex>", lower case */
bool ims_token_lease_parse(ims_str_t value, uint64_t *ident,
    uint64_t *lease_id);

/* Is one of the space-separated words of list the word? */
bool ims_token_words_have(ims_str_t list, ims_str_t word);

/* Copies bytes into c->buf and makes *dst point there.  False: no room. */
bool ims_token_store(ims_token_claims_t *c, ims_str_t *dst, ims_str_t value);

/* Sets *err and returns -1. */
int ims_token_fail(ims_token_err_t *err, ims_token_code_t code,
    const char *claim);


#endif /* _IMS_TOKEN_CLAIMS_H_INCLUDED_ */
