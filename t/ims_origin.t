#!/usr/bin/perl

# Tests for the Origin of a WebSocket handshake: exact, below a domain, by
# regex; everything else is refused in the preaccess phase.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;
use ImsWs;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http rewrite/)->has_daemon('openssl');

my @good = qw{
    https://wwsf.example
    https://wwsf.example:443
    HTTPS://WWSF.EXAMPLE
    http://wwsf.example:8080
    https://a.wild.example
    https://a.b.wild.example
    https://re1.example
    https://re22.example
    http://[::1]:8080
};

my @bad = (
    'https://evil.example', 'http://wwsf.example', 'https://wwsf.example:444',
    'https://wwsf.example.evil.com', 'https://evilwwsf.example',
    'https://wwsf.example.', 'https://wwsf.example/', 'https://wwsf.example/x',
    'https://wwsf.example?x', 'https://wwsf.example#x',
    'https://user@wwsf.example', 'https://wwsf.example@evil.com',
    'https://wwsf.example:0443', 'https://wwsf.example:', 'https://', 'https',
    'null', 'wwsf.example', '//wwsf.example', 'wss://wwsf.example',
    'https://wild.example', 'https://xwild.example', 'https://.wild.example',
    'https://a..wild.example', 'https://*.wild.example',
    'https://a.wild.example.evil.com', 'https://a.wild.example:444',
    'https://re1.example.evil.com', 'https://evil.com?https://re1.example',
    'https://xre1.example', 'https://re1.example:8443', 'https://rex.example',
    'https://wwsf.example, https://wwsf.example',
    'https://wwsf.example https://evil.com', "https://wwsf.example\x01",
    "https://wwsf.example\xc3\xa9", 'https://wwsf.example%2eevil.com',
    'https://' . 'a' x 300 . '.wild.example', '*',
);

$t->plan(@good + 2 * @bad + 21);

ims_keys($t);
ims_keys($t, name => 'second');

my $d = $t->testdir();

$t->write_file_expand('nginx.conf', ims_conf($t,
    origins => [ qw{ https://wwsf.example http://wwsf.example:8080
                     https://*.wild.example ~https://re[0-9]+\.example
                     http://[::1]:8080 } ],
    http => <<"    END",
        ims_issuer second {
            iss     second;
            aud     ims.example;
            alg     ES256;
            key     k $d/second.pub.pem;
            domain  ims.example;
            origin  https://second.example;
        }
    END
    locations => <<'    END'));

        location = /missing {
            ims_pass           core;
            ims_accept_issuer  site;
            ims_origin_missing on;
        }

        location = /both {
            ims_pass           core;
            ims_accept_issuer  site second;
        }

        location = /all {
            ims_pass           core;
        }

        location = /satisfy {
            satisfy            any;
            allow              all;
            ims_pass           core;
            ims_accept_issuer  site;
        }

        location = /rewrite {
            rewrite ^ /ims/ws last;
        }

        location = /try {
            try_files /none /ims/ws;
        }

        location = /denied {
            deny               all;
            ims_pass           core;
            ims_accept_issuer  site;
        }
    END

$t->run();

###############################################################################

is(status($_), 101, "taken $_") for @good;

for (@bad) {
    my $name = s/[^\x21-\x7e]/?/gr;

    is(status($_), 403, 'refused ' . substr $name, 0, 60);
    is(status($_, uri => '/satisfy'), 403, 'and with satisfy any');
}

is(status(undef), 403, 'no Origin');
is(status(''), 403, 'an empty one');
is(status('https://wwsf.example', headers => ['Origin: https://evil.com']),
    403, 'two, the second foreign');
is(status('https://evil.com', headers => ['Origin: https://wwsf.example']),
    403, 'two, the first foreign');
is(status('https://wwsf.example', headers => ['Origin: https://wwsf.example']),
    403, 'two of the same');
is(status(undef, uri => '/missing'), 101, 'none, allowed');
is(status('', uri => '/missing'), 403, 'an empty one is not none');
is(status('https://evil.com', uri => '/missing'), 403, 'nor a foreign one');

is(status('https://second.example'), 403, 'of an issuer not taken here');
is(status('https://second.example', uri => '/both'), 101, 'where it is');
is(status('https://second.example', uri => '/all'), 101, 'where all are');
is(status('https://evil.com', uri => '/all'), 403, 'but not foreign ones');

is(status('https://wwsf.example', uri => '/rewrite'), 101, 'rewritten to');
is(status('https://evil.com', uri => '/rewrite'), 403, 'refused there');
is(status('https://wwsf.example', uri => '/try'), 101, 'redirected to');
is(status('https://evil.com', uri => '/try'), 403, 'refused there, too');
is(status('https://wwsf.example', uri => '/denied'), 403, 'site rules hold');

like($t->read_file('error.log'),
    qr/\[info\].*refused: origin "https:\/\/evil.com" is not .*client: 127/,
    'logged with the address');
like($t->read_file('error.log'), qr/origin "https:\/\/wwsf.example\\x01"/,
    'escaped');
like($t->read_file('error.log'), qr/origin "https:\/\/a{100,120}\.\.\."/,
    'and cut');

my $c = ims_status()->{counters};

is("$c->{origin_foreign} $c->{origin_missing}", 2 * @bad + 10 . ' 1',
    'counted');

###############################################################################

sub status {
    my ($origin, %o) = @_;

    my $ws = ImsWs->new(port => port(8080), origin => $origin, %o);

    return $ws->{status};
}

###############################################################################
