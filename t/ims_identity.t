#!/usr/bin/perl

# Tests for ims_identity with a real pool manager: who gets which identity,
# the token, the cookie, release, cross-site requests, an exhausted pool.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl/)->has_daemon('openssl')
    ->plan(102);

ims_keys($t);
ims_cert($t);
ims_pool($t, size => 6);

my $d = $t->testdir();

$t->write_file_expand('nginx.conf', ims_conf($t,
    issuer => 'origin https://app.example https://*.wild.example '
              . '~https://re[0-9]+\.example;',
    identity => 'ims_identity_cookie sess;',
    locations => <<"    END"));

        location /strict {
            ims_identity       web;
            ims_identity_user  \$arg_user;
        }

        location = /public {
            ims_identity       web;
            ims_origin_missing on;
            ims_identity_user  \$arg_user;
            ims_identity_ws_uri wss://edge.example/\$arg_user;
        }

        location = /elsewhere {
            ims_identity       web;
            ims_identity_realm elsewhere;
            ims_identity_user  \$remote_user;
        }

        location ~ ^/regex {
            ims_identity       web;
        }

        location = /basic {
            auth_basic         site;
            auth_basic_user_file $d/users;
            ims_identity       web;
            ims_identity_user  \$remote_user;
        }

        location = /any {
            satisfy any;
            allow all;
            ims_identity       web;
        }

        location = /error {
            error_page 404 = /ims/identity;
            return 404;
        }
    END

$t->write_file('users', "alice:{PLAIN}pw\n");
$t->run();

###############################################################################

# a user's identity, and what comes with it

my $alice = ims_identity(user => 'alice');
my $j = $alice->{json};
my $c = ims_claims($j->{token});

is($alice->{status}, 200, 'given');
like($alice->{headers}, qr!^Content-Type: application/json\r?$!mi, 'JSON');
like($alice->{headers}, qr/^Cache-Control: no-store\r?$/mi, 'not stored');
is($j->{impi}, 'web-000001@ims.example', 'impi');
is($j->{impu}, 'sip:web-000001@ims.example', 'impu');
is_deeply($j->{impus}, ['sip:web-000001@ims.example'], 'impus');
is($j->{home_domain}, 'ims.example', 'home domain');
is($j->{token_type}, 'Bearer', 'token type');
is($j->{ws_uri}, 'ws://localhost/ims/ws', 'WebSocket');
like($j->{lease}, qr/^[0-9a-f]{16}-[0-9a-f]{16}$/, 'lease');
ok($j->{expires_in} > 590 && $j->{expires_in} < 600, 'time left');

is($c->{iss}, 'https://localhost', 'iss');
is($c->{aud}, 'ims.example', 'aud');
is($c->{impi}, $j->{impi}, 'token: impi');
is_deeply([ ref $c->{impu} ? @{$c->{impu}} : $c->{impu} ], $j->{impus},
    'token: impu');
is($c->{lease}, $j->{lease}, 'token: lease');
is($c->{pool}, 'web', 'token: pool');
is($c->{origin}, 'http://localhost', 'token: origin');
is($c->{scope}, 'webrtc-ims-client-access-to-ims', 'token: scope');
like($c->{sub}, qr/^[A-Za-z0-9_-]{22}$/, 'token: holder tag');
like($c->{sid}, qr/^[0-9a-f]{16}$/, 'token: session');
ok(abs($c->{iat} - time()) < 20, 'token: iat');
is($c->{nbf}, $c->{iat}, 'token: nbf');
is($c->{exp} - $c->{iat}, $j->{expires_in}, 'token: exp');
unlike($alice->{body}, qr/alice/, 'no user name in it');

# verified by somebody else's hands: openssl

ok(signed_by($t, $j->{token}), 'signature');

# the cookie

my ($set) = $alice->{headers} =~ /^Set-Cookie: (.*?)\r?$/mi;

like($set, qr/^sess=([0-9a-f]{16})\.[0-9a-f]{32}; /, 'cookie');
like($set, qr!; Path=/ims/identity; HttpOnly; SameSite=Strict$!,
    'cookie attributes');
is($alice->{cookie}, "sess=$c->{sid}." . substr($alice->{cookie}, -32),
    'the session is in the cookie');

# again, in the same session: same lease, fresh token

my $again = ims_identity(user => 'alice', cookie => $alice->{cookie});

is($again->{json}{lease}, $j->{lease}, 'same lease');
is($again->{json}{impu}, $j->{impu}, 'same identity');
isnt($again->{json}{token}, $j->{token}, 'fresh token');
is(ims_claims($again->{json}{token})->{sid}, $c->{sid}, 'same session');
isnt(ims_claims($again->{json}{token})->{jti}, $c->{jti}, 'another jti');
is($again->{cookie}, $alice->{cookie}, 'same cookie');

# in another browser: same identity, another session

my $second = ims_identity(user => 'alice');

is($second->{json}{impu}, $j->{impu}, 'another browser, same identity');
isnt(ims_claims($second->{json}{token})->{sid}, $c->{sid},
    'another session');
is(ims_claims($second->{json}{token})->{sub}, $c->{sub}, 'same holder');

# another user, and nobody

my $bob = ims_identity(user => 'bob');

is($bob->{json}{impu}, 'sip:web-000002@ims.example', 'another user');
isnt(ims_claims($bob->{json}{token})->{sub}, $c->{sub}, 'another holder');

my $nobody = ims_identity();

is($nobody->{status}, 200, 'anonymous');
is($nobody->{json}{impu}, 'sip:web-000003@ims.example', 'their identity');
is(ims_identity(cookie => $nobody->{cookie})->{json}{impu},
    $nobody->{json}{impu}, 'anonymous again');

isnt(ims_identity(uri => '/elsewhere', user => 'bob')->{json}{impu},
    $bob->{json}{impu}, 'the same name in another realm is another user');

# a cookie that is not ours is no cookie

for my $bad ('sess=', 'sess=x', "sess=$c->{sid}", "xsess=$c->{sid}.0",
             'sess=' . 'g' x 16 . '.' . '0' x 32, "sess=$c->{sid}."
             . '0' x 33)
{
    my $r = ims_identity(user => 'bob', cookie => $bad);

    isnt(ims_claims($r->{json}{token})->{sid}, $c->{sid}, "cookie $bad");
}

# a user is needed, or must be one

is(ims_identity(uri => '/strict')->{status}, 403, 'no user');
is(ims_identity(uri => '/strict')->{json}{error}, 'login_required', 'why');

for my $bad ('a' x 1025, 'anonymous:' . '0' x 32, 'Anonymous:x') {
    my $r = ims_identity(uri => '/strict', query => "user=$bad");

    is($r->{json}{error}, 'bad_user', 'bad user ' . substr $bad, 0, 12);
}

is(ims_identity(user => "b\001b")->{json}{error}, 'bad_user',
    'control character');
is(ims_identity(user => "b\nInjected: x")->{json}{error}, 'bad_user',
    'line feed');
is(ims_identity(uri => '/strict', query => 'user=bob')->{json}{impu},
    $bob->{json}{impu}, 'a variable as user');

is(ims_identity(uri => '/basic')->{status}, 401, 'site login');
like(ims_identity(uri => '/basic')->{headers},
    qr!^Access-Control-Allow-Origin: http://localhost\r?$!mi,
    'its refusal can be read');

# the Origin

is(ims_identity(user => 'bob', origin => 'https://evil.example')->{status},
    403, 'foreign origin');
is(ims_identity(user => 'bob', origin => undef)->{status}, 403, 'no origin');
is(ims_identity(user => 'bob', origin => 'null')->{status}, 403, 'null');
is(ims_identity(user => 'bob', headers => ['Origin: http://localhost'])
    ->{status}, 403, 'two origins');
is(ims_identity(uri => '/any', origin => 'https://evil.example')->{status},
    403, 'satisfy any has no say');
is(ims_identity(uri => '/error', origin => 'https://evil.example')->{status},
    403, 'nor has error_page');
unlike(ims_identity(origin => 'https://evil.example')->{headers},
    qr/Access-Control/i, 'nothing allowed to it');
like(ims_identity(origin => 'https://evil.example')->{headers},
    qr/^Vary: Origin\r?$/mi, 'and not to be cached for others');

my $r = ims_identity(uri => '/public', origin => undef, query => 'user=bob');

is($r->{status}, 200, 'no origin, allowed');
ok(!exists ims_claims($r->{json}{token})->{origin}, 'not bound to one');
is($r->{json}{ws_uri}, 'wss://edge.example/bob', 'WebSocket by a variable');
is(ims_identity(uri => '/public', origin => undef, query => 'user=bob',
    headers => ['Sec-Fetch-Site: cross-site'])->{status}, 403,
    'no origin, but cross-site');

# a page of another site

$r = ims_identity(user => 'bob', origin => 'https://app.example');

like($r->{headers},
    qr!^Access-Control-Allow-Origin: https://app.example\r?$!mi, 'CORS');
like($r->{headers}, qr/^Access-Control-Allow-Credentials: true\r?$/mi,
    'with credentials');
like($r->{headers}, qr/SameSite=None; Secure\r?$/mi, 'cookie across sites');
is($r->{json}{ws_uri}, 'wss://localhost/ims/ws', 'TLS in front of us');

like(ims_identity(user => 'bob', origin => 'https://app.example',
    headers => ['Sec-Fetch-Site: same-site'])->{headers},
    qr/SameSite=Strict; Secure\r?$/mi, 'cookie within a site');

$r = ims_identity(method => 'OPTIONS', uri => '/basic',
    origin => 'https://app.example',
    headers => ['Access-Control-Request-Method: POST']);

is($r->{status}, 204, 'preflight, without login');
like($r->{headers}, qr/^Access-Control-Allow-Methods: POST, DELETE\r?$/mi,
    'methods');
like($r->{headers},
    qr/^Access-Control-Allow-Headers: Authorization, Content-Type\r?$/mi,
    'headers');
like($r->{headers}, qr/^Access-Control-Max-Age: \d+\r?$/mi, 'age');
is(ims_identity(method => 'OPTIONS', origin => 'https://evil.example')
    ->{status}, 403, 'foreign preflight');

like(ims_identity(uri => '/regex/1', cookie => $nobody->{cookie})
    ->{headers}, qr!; Path=/; HttpOnly!, 'cookie path of a regex location');

# methods

is(ims_identity(method => 'GET')->{status}, 405, 'GET');
like(ims_identity(method => 'PUT')->{headers},
    qr/^Allow: POST, DELETE, OPTIONS\r?$/mi, 'Allow');

# release

is(ims_identity(method => 'DELETE', user => 'alice',
    query => "lease=$j->{lease}")->{status}, 409, 'release without cookie');
is(ims_identity(method => 'DELETE', user => 'alice',
    cookie => $second->{cookie})->{status}, 409, 'without lease');
is(ims_identity(method => 'DELETE', user => 'bob',
    cookie => $second->{cookie}, query => "lease=$j->{lease}")->{json}{error},
    'conflict', 'by another user');
is(ims_identity(method => 'DELETE', user => 'alice',
    cookie => $second->{cookie}, query => "lease=$bob->{json}{lease}")
    ->{status}, 409, 'of another lease');
is(ims_identity(method => 'DELETE', user => 'alice',
    cookie => $second->{cookie}, query => "lease=$j->{lease}",
    origin => 'https://evil.example')->{status}, 403, 'by a foreign page');

$r = ims_identity(method => 'DELETE', user => 'alice',
    cookie => $second->{cookie}, query => "lease=$j->{lease}");

is($r->{status}, 204, 'released');
isnt($r->{cookie}, $second->{cookie}, 'the session number with it');

is(ims_identity(method => 'DELETE', user => 'alice',
    cookie => $second->{cookie}, query => "lease=$j->{lease}")->{status}, 409,
    'not twice');

$r = ims_identity(user => 'alice', cookie => $r->{cookie});

is($r->{json}{impu}, $j->{impu}, 'back to the same identity');
is($r->{json}{lease}, $j->{lease}, 'on the lease that other browsers hold');

ims_poolctl($t, 'revoke', 'lease', $j->{lease});
$r = ims_identity(user => 'alice');

is($r->{json}{impu}, $j->{impu}, 'the same identity after the lease');
isnt($r->{json}{lease}, $j->{lease}, 'on a new lease');

# the pool ends

is(ims_identity(user => 'carol')->{status}, 200, 'the last one');

$r = ims_identity(user => 'dave');

ok($r->{status} == 503 && $r->{json}{error} eq 'pool_exhausted'
    && $r->{headers} =~ /^Retry-After: $r->{json}{retry_after}\r?$/mi
    && $r->{json}{retry_after} > 600, 'exhausted');

# over TLS

my $tls = http("POST /ims/identity HTTP/1.0\r\nHost: localhost\r\n"
    . "Origin: http://localhost\r\nCookie: $nobody->{cookie}\r\n\r\n",
    SSL => 1);

like($tls, qr/SameSite=Strict; Secure\r\n.*"wss:/s, 'over TLS');

# nothing of a token or a name in the log

# nginx's own debug lines aside, which show every header

is(join('', grep { !/\[debug\]/ && /eyJ|alice|carol|dave/ }
    split /^/, $t->read_file('error.log')), '',
    'no token and no name in the log');

is(ims_status()->{counters}{identity_exhausted}, 1, 'counted');

###############################################################################

sub signed_by {
    my ($t, $token) = @_;

    require MIME::Base64;

    my ($input, $sig) = $token =~ /^(.*)\.(.*)$/;
    my $raw = MIME::Base64::decode_base64url($sig);
    my @int = map { s/^\0+//r } unpack 'a32 a32', $raw;
    my $der = join '', map {
        $_ = "\0$_" if ord($_) & 0x80;
        pack 'C C/a', 2, $_;
    } @int;

    $t->write_file('sig', pack 'C C/a', 0x30, $der);
    $t->write_file('input', $input);

    my $d = $t->testdir();

    my ($status) = ims_run('openssl', 'dgst', '-sha256', '-verify',
        "$d/site.pub.pem", '-signature', "$d/sig", "$d/input");

    return $status == 0;
}


###############################################################################
