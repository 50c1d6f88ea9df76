#!/usr/bin/perl

# Tests for a token shown at the WebSocket handshake: its carriers, what is
# refused, ims_token off, optional and required, satisfy.

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

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl');

ims_keys($t);
ims_keys($t, name => 'second');
ims_keys($t, name => 'other');

my $d = $t->testdir();
my $now = time();

my %good = (
    iss => 'https://localhost', aud => 'ims.example',
    sub => 'AAAAAAAAAAAAAAAAAAAAAA', impi => 'web-000001@ims.example',
    impu => ['sip:web-000001@ims.example'], pool => 'web',
    lease => '0000000100000001-0000010000000001', sid => '0' x 15 . '1',
    scope => 'webrtc-ims-client-access-to-ims', iat => $now, nbf => $now,
    exp => $now + 600,
);

my %second = (iss => 'second');

# what differs from a good token, its status, what the log says

my @bad = (
    [ 'expired', { exp => $now - 10 }, 401, 'expired' ],
    [ 'not yet valid', { nbf => $now + 60 }, 401 ],
    [ 'audience', { aud => 'other' }, 401 ],
    [ 'issuer', { iss => 'other' }, 401 ],
    [ 'scope', { scope => 'openid' }, 403 ],
    [ 'no exp', { exp => undef }, 401 ],
    [ 'no impi', { impi => undef }, 401 ],
    [ 'no impu', { impu => undef }, 401 ],
    [ 'no lease', { lease => undef }, 401 ],
    [ 'no sid', { sid => undef }, 401 ],
    [ 'impu injects', { impu => "sip:a\@b>\r\nX: y" }, 401 ],
    [ 'pool of another', { pool => 'gold' }, 403,
        'issuer may not speak for this identity' ],
    [ 'other origin', { origin => 'https://other.example' }, 403,
        'bound to another origin' ],
    [ 'domain of another', { %second, impu => 'sip:a@other.example' }, 403,
        'issuer may not speak for this identity', 'second' ],
    [ 'number without pool', { %second, impu => 'tel:+15551234567' }, 403,
        'issuer may not speak for this identity', 'second' ],
    [ 'page of another issuer', { %second }, 403,
        'issuer does not serve this origin', 'second' ],
    [ 'key of another issuer', {}, 401, 'signature', 'second' ],
    [ 'unknown key', {}, 401, 'signature', 'other' ],
);

$t->plan(3 * @bad + 56);

$t->write_file_expand('nginx.conf', ims_conf($t,
    http => <<"    END",
        log_format line '\$request|\$request_uri|\$args|\$query_string';
        access_log $d/line.log line;

        ims_issuer second {
            iss     second;
            aud     ims.example;
            alg     ES256;
            key     k1 $d/second.pub.pem;
            domain  ims.example;
            origin  https://second.example;
        }
    END
    ws => 'ims_token_cookie token;',
    locations => <<"    END"));

        location = /required {
            ims_pass           core;
            ims_accept_issuer  site second;
            ims_token          required;
            ims_token_cookie   token;
        }

        location = /off {
            ims_pass           core;
            ims_accept_issuer  site;
            ims_token          off;
        }

        location = /any {
            satisfy            any;
            deny               all;
            ims_pass           core;
            ims_accept_issuer  site;
            ims_token          required;
        }

        location = /both {
            auth_basic         site;
            auth_basic_user_file $d/users;
            ims_pass           core;
            ims_accept_issuer  site;
        }
    END

$t->write_file('users', "alice:{PLAIN}pw\n");
$t->run();

###############################################################################

my $token = token({});

# carriers

is(status(), 101, 'no token, none needed');
is(status(uri => '/required'), 401, 'no token, one needed');
like(answer(uri => '/required'),
    qr/^WWW-Authenticate: Bearer realm="ims"\r?$/mi, 'challenge');

for my $uri (qw{ /ims/ws /required }) {
    is(status(uri => $uri, headers => ["Authorization: Bearer $token"]), 101,
        "$uri, Authorization");
    is(status(uri => $uri,
        headers => ["Authorization: bearer access_token=\"$token\""]), 101,
        "$uri, Authorization as in TS 24.371");
    is(status(uri => "$uri?access_token=$token"), 101, "$uri, query");
    is(status(uri => "$uri?a=b&access_token=$token&c=d"), 101,
        "$uri, query with others");
    is(status(uri => $uri, headers => ["Cookie: a=b; token=$token; c=d"]),
        101, "$uri, cookie");
    is(status(uri => $uri, protocol => "sip, $token"), 101,
        "$uri, subprotocol");
    is(status(uri => $uri, headers => ["Sec-WebSocket-Protocol: $token"]),
        101, "$uri, subprotocol on a line of its own");
}

is(status(uri => '/off', headers => ['Authorization: Bearer x.y.z']), 101,
    'not looked at');

# only what was verified lets in

for my $carrier (
    [ headers => ['Authorization: Bearer x'] ],
    [ headers => ['Authorization: Bearer'] ],
    [ headers => ['Authorization: Bearer '] ],
    [ headers => ["Authorization: Bearer $token $token"] ],
    [ headers => ['Authorization: Bearer access_token=""'] ],
    [ uri => '/ims/ws?access_token=x' ],
    [ uri => '/ims/ws?access_token=' . 'x' x 7000 ],
    [ headers => ['Cookie: token=x'] ],
    [ protocol => 'sip, eyJx.y.z' ],
    [ uri => "/ims/ws?access_token=x", headers => ["Cookie: token=$token"] ],
    [ uri => "/ims/ws?access_token=$token",
      headers => ['Authorization: Bearer x'] ],
) {
    my $name = substr "@{[ map { ref $_ ? @$_ : $_ } @$carrier ]}", 0, 50;

    $name =~ s/\Q$token\E/TOKEN/;
    $name =~ s/eyJ\S{10,}/TOKEN/;

    is(status(@$carrier), 401, "bad: $name");
}

like(answer(headers => ['Authorization: Bearer x']),
    qr/^WWW-Authenticate: Bearer realm="ims", error="invalid_token"\r?$/mi,
    'and why');

is(status(headers => ['Authorization: Bearer x', 'Authorization: Bearer x']),
    400, 'two: nginx itself refuses');
is(status(headers => ['Authorization: Basic YTpi']), 101,
    'another scheme is no token');
is(status(uri => '/required', headers => ['Authorization: Basic YTpi']), 401,
    'nor lets it in');
is(status(uri => '/ims/ws?access_token='), 101, 'an empty one is none');
is(status(protocol => 'sip, chat'), 101, 'another subprotocol');

for (@bad) {
    my ($name, $change, $status, $says, $key) = @$_;
    my $bad = token($change, $key);

    is(status(uri => '/required', headers => ["Authorization: Bearer $bad"]),
        $status, $name);
    is(status(uri => '/required', protocol => "sip, $bad"), $status,
        "$name, as subprotocol");

    $says //= 'handshake refused: token';
    ok(ims_wait_log($t, qr/handshake refused: .*$says|$says/),
        "$name, logged");
}

like(answer(uri => '/required',
    headers => ['Authorization: Bearer ' . token({ scope => 'openid' })]),
    qr/error="insufficient_scope"/, 'scope, challenge');

# what it is bound to

is(status(uri => '/required', headers => ['Authorization: Bearer '
    . token({ origin => 'http://localhost' })]), 101, 'bound to this origin');
is(status(uri => '/required', headers => ['Authorization: Bearer '
    . token({ origin => 'HTTP://LOCALHOST:80' })]), 101, 'however written');
is(status(uri => '/required', origin => 'https://second.example',
    headers => ['Authorization: Bearer ' . token(\%second, 'second')]), 101,
    'another issuer on its own page');
is(status(uri => '/required', origin => 'https://second.example',
    headers => ['Authorization: Bearer '
        . token({ %second, impu => ['sip:a@ims.example',
                                    'sip:a@other.example'] }, 'second')]),
    403, 'one IMPU of two outside');
is(status(uri => '/required', origin => 'https://evil.example',
    headers => ["Authorization: Bearer $token"]), 403,
    'a good token does not help a foreign page');

# algorithms

my $none = ims_jwt({ alg => 'none' }, \%good, undef);

is(status(headers => ["Authorization: Bearer $none"]), 401, 'alg none');

my $confused = ims_jwt({ alg => 'HS256' }, \%good, "$d/site.pub.pem");

is(status(headers => ["Authorization: Bearer $confused"]), 401,
    'HS256 with the public key');
is(status(headers => ["Authorization: Bearer $token"]), 101,
    'and then a good one');

# satisfy

is(status(uri => '/any'), 401, 'satisfy any: nothing');
is(status(uri => '/any', headers => ["Authorization: Bearer $token"]), 101,
    'satisfy any: token');
is(status(uri => '/any', headers => ['Authorization: Bearer x']), 401,
    'satisfy any: bad token');
is(status(uri => '/both'), 401, 'login needed');
is(status(uri => '/both', protocol => "sip, $token"), 401,
    'a token is no login');
is(status(uri => '/both', protocol => "sip, $token",
    headers => ['Authorization: Basic YWxpY2U6cHc=']), 101, 'both');

# a token is in no log

is(join('', grep { !/\[debug\]/ && /eyJ/ }
    split /^/, $t->read_file('error.log')), '', 'not in the error log');

my $log = $t->read_file('line.log');

unlike($log, qr/eyJ/, 'nor in an access log');
like($log, qr/^GET \/ims\/ws\?access_token=x+ HTTP\/1.1\|/m, 'written over');
like($log, qr/\Qa=b&access_token=x\Ex+\Q&c=d HTTP\E/, 'and nothing else');

my $c = ims_status()->{counters};

is($c->{handshake_token_missing}, 4, 'missing, counted');
ok($c->{handshake_token_bad} > 2 * @bad, 'bad, counted');

###############################################################################

sub token {
    my ($change, $key) = @_;

    my %claims = (%good, %$change);

    delete @claims{grep { !defined $claims{$_} } keys %claims};
    $key //= 'site';

    return ims_jwt({ alg => 'ES256', kid => 'k1' }, \%claims,
        "$d/$key.key.pem");
}


sub answer {
    my (%o) = @_;

    my $ws = ImsWs->new(port => port(8080), origin => 'http://localhost', %o);

    return $ws->{response};
}


sub status {
    my ($status) = answer(@_) =~ m{^HTTP/1\.\d (\d+)};

    return $status;
}

###############################################################################
