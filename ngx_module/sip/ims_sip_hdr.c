/*
 * Copyright (C) nginx-ims contributors
 */

#include "sip/ims_sip_hdr.h"


typedef struct {
    ims_str_t    name;
    const char  *repeated;
    char         compact;
    uint8_t      single;
} ims_sip_hdr_name_t;


#define IMS_SIP_HDR_ROW(id, text, letter, one)                                \
    [IMS_SIP_H_##id] = { ims_str(text), "Repeated " text " header",           \
                         letter, one },

static const ims_sip_hdr_name_t  ims_sip_hdr_names[IMS_SIP_H_COUNT] = {
    [IMS_SIP_H_OTHER] = { ims_str(""), "Repeated header", 0, 0 },
    IMS_SIP_HEADERS(IMS_SIP_HDR_ROW)
};


/* first and last id of the names of each length */

#define IMS_SIP_HDR_LONGEST  29

static const uint8_t  ims_sip_hdr_by_length[IMS_SIP_HDR_LONGEST + 1][2] = {
    [2] = { IMS_SIP_H_TO, IMS_SIP_H_TO },
    [3] = { IMS_SIP_H_VIA, IMS_SIP_H_VIA },
    [4] = { IMS_SIP_H_CSEQ, IMS_SIP_H_RSEQ },
    [5] = { IMS_SIP_H_ALLOW, IMS_SIP_H_ROUTE },
    [6] = { IMS_SIP_H_ACCEPT, IMS_SIP_H_SERVER },
    [7] = { IMS_SIP_H_CALL_ID, IMS_SIP_H_WARNING },
    [8] = { IMS_SIP_H_IDENTITY, IMS_SIP_H_SIP_ETAG },
    [9] = { IMS_SIP_H_DIVERSION, IMS_SIP_H_TIMESTAMP },
    [10] = { IMS_SIP_H_FLOW_TIMER, IMS_SIP_H_USER_AGENT },
    [11] = { IMS_SIP_H_GEOLOCATION, IMS_SIP_H_UNSUPPORTED },
    [12] = { IMS_SIP_H_ALLOW_EVENTS, IMS_SIP_H_USER_TO_USER },
    [13] = { IMS_SIP_H_AUTHORIZATION, IMS_SIP_H_TARGET_DIALOG },
    [14] = { IMS_SIP_H_ACCEPT_CONTACT, IMS_SIP_H_RELAYED_CHARGE },
    [15] = { IMS_SIP_H_P_USER_DATABASE, IMS_SIP_H_SESSION_EXPIRES },
    [16] = { IMS_SIP_H_ATTESTATION_INFO, IMS_SIP_H_WWW_AUTHENTICATE },
    [17] = { IMS_SIP_H_P_CALLED_PARTY_ID, IMS_SIP_H_RESOURCE_PRIORITY },
    [18] = { IMS_SIP_H_TURN_CRED, IMS_SIP_H_SUBSCRIPTION_STATE },
    [19] = { IMS_SIP_H_ADDITIONAL_IDENTITY, IMS_SIP_H_REQUEST_DISPOSITION },
    [20] = { IMS_SIP_H_P_DCS_TRACE_PARTY_ID, IMS_SIP_H_P_VISITED_NETWORK_ID },
    [21] = { IMS_SIP_H_CELLULAR_NETWORK_INFO, IMS_SIP_H_SERVICE_INTERACT_INFO },
    [28] = { IMS_SIP_H_P_PRIVATE_NETWORK_INDICATION,
             IMS_SIP_H_P_PRIVATE_NETWORK_INDICATION },
    [29] = { IMS_SIP_H_P_CHARGING_FUNCTION_ADDRESSES,
             IMS_SIP_H_P_CHARGING_FUNCTION_ADDRESSES },
};


static const uint8_t  ims_sip_hdr_by_letter[26] = {
    ['a' - 'a'] = IMS_SIP_H_ACCEPT_CONTACT,
    ['b' - 'a'] = IMS_SIP_H_REFERRED_BY,
    ['c' - 'a'] = IMS_SIP_H_CONTENT_TYPE,
    ['d' - 'a'] = IMS_SIP_H_REQUEST_DISPOSITION,
    ['e' - 'a'] = IMS_SIP_H_CONTENT_ENCODING,
    ['f' - 'a'] = IMS_SIP_H_FROM,
    ['i' - 'a'] = IMS_SIP_H_CALL_ID,
    ['j' - 'a'] = IMS_SIP_H_REJECT_CONTACT,
    ['k' - 'a'] = IMS_SIP_H_SUPPORTED,
    ['l' - 'a'] = IMS_SIP_H_CONTENT_LENGTH,
    ['m' - 'a'] = IMS_SIP_H_CONTACT,
    ['n' - 'a'] = IMS_SIP_H_IDENTITY_INFO,
    ['o' - 'a'] = IMS_SIP_H_EVENT,
    ['r' - 'a'] = IMS_SIP_H_REFER_TO,
    ['s' - 'a'] = IMS_SIP_H_SUBJECT,
    ['t' - 'a'] = IMS_SIP_H_TO,
    ['u' - 'a'] = IMS_SIP_H_ALLOW_EVENTS,
    ['v' - 'a'] = IMS_SIP_H_VIA,
    ['x' - 'a'] = IMS_SIP_H_SESSION_EXPIRES,
    ['y' - 'a'] = IMS_SIP_H_IDENTITY
};


unsigned
ims_sip_hdr_id(const uint8_t *p, size_t n)
{
    uint8_t    c, z;
    unsigned   id, last;
    ims_str_t  name;

    if (n == 0 || n > IMS_SIP_HDR_LONGEST) {
        return IMS_SIP_H_OTHER;
    }

    c = (uint8_t) (p[0] | 0x20);

    if (n == 1) {
        return p[0] >= 'A' && c >= 'a' && c <= 'z'
               ? ims_sip_hdr_by_letter[c - 'a'] : IMS_SIP_H_OTHER;
    }

    id = ims_sip_hdr_by_length[n][0];
    last = ims_sip_hdr_by_length[n][1];

    if (id == IMS_SIP_H_OTHER) {
        return IMS_SIP_H_OTHER;
    }

    z = (uint8_t) (p[n - 1] | 0x20);

    for ( /* void */ ; id <= last; id++) {
        name = ims_sip_hdr_names[id].name;

        /* two bytes tell nearly all apart; the comparison decides */

        if (c == (name.p[0] | 0x20) && z == (name.p[n - 1] | 0x20)
            && ims_str_caseeq(name, ims_str_set(p, n)))
        {
            return id;
        }
    }

    return IMS_SIP_H_OTHER;
}


ims_str_t
ims_sip_hdr_name(unsigned id)
{
    return ims_sip_hdr_names[id < IMS_SIP_H_COUNT ? id : 0].name;
}


char
ims_sip_hdr_compact(unsigned id)
{
    return ims_sip_hdr_names[id < IMS_SIP_H_COUNT ? id : 0].compact;
}


bool
ims_sip_hdr_single(unsigned id)
{
    return ims_sip_hdr_names[id < IMS_SIP_H_COUNT ? id : 0].single;
}


const char *
ims_sip_hdr_repeated(unsigned id)
{
    return ims_sip_hdr_names[id < IMS_SIP_H_COUNT ? id : 0].repeated;
}
