#!/usr/bin/perl

# Tests for everything that a REGISTER, or what is sent in place of one, is
# refused for: the answer, the fate of the WebSocket, the counter and the log
# line that say why, and that nothing of it reaches the core.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use ImsWs;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl');

my $dir = $t->testdir();
my $good = "$dir/site.key.pem";
my $foreign = "$dir/other.key.pem";

my @tokens = tokens();
my @refused = refused();
my @spellings = spellings();
my @malformed = malformed();
my @frames = frames();

# each of them is one test, by name
$t->plan(@tokens + @refused + 3 * @spellings + 2 * @malformed + @frames + 32);

ims_keys($t);
ims_keys($t, name => 'other');
ims_pool($t, size => 200);

$t->write_file_expand('nginx.conf',
    ims_conf($t, lease_check => '200ms', grace => '300s',
    issuer => 'scope telephone;', http => <<"END")
    ims_max_message 8k;

    ims_issuer other {
        iss     https://other.example;
        aud     ims.example;
        alg     ES256;
        key     o1 $dir/other.pub.pem;
        pool    web;
        scope   telephone;
        origin  https://other.example;
    }
END
    =~ s/(ims_accept_issuer  site)/$1 other/r);
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my $home = 'ims.example';

# tokens: all of them are looked at in REGISTER

for my $case (@tokens) {
    my ($name, $token, $status, $counter, $log) = @$case;

    my $c = ImsClient->new();
    refusal($t, $name, $c, $c->{ua}->register(token => $token->($c)),
            $status, $counter, $log, $status == 403 ? 1008 : undef);
}

# all that is refused for what it says, or for what became of the lease

for my $case (@refused) {
    my ($name, $text, $status, $counter, $log, $code) = @$case;

    my $c = ImsClient->new();
    refusal($t, $name, $c, $text->($c, $t), $status, $counter, $log,
            $code);
}

# no token: a challenge that says for what scope

my $c = ImsClient->new();
$c->send($c->{ua}->register(token => undef));
my $answer = $c->answer();
is($answer->{status}, 401, 'no token');
is(sip_header($answer, 'WWW-Authenticate'), 'Bearer realm="ims.example",'
    . 'scope="telephone"', 'challenge');
ok($c->alive(), 'the flow stays');

# the same flow registers once it has one

my ($m, $link) = $c->registered($core);
is($m->{method}, 'REGISTER', 'and may register');

# expired: the challenge says so, and a fresh one is taken on the same flow

$c = ImsClient->new();
$c->send($c->{ua}->register(token => token($c, exp => time() - 1000)));
$answer = $c->answer();
like(sip_header($answer, 'WWW-Authenticate'), qr/,error="invalid_token"$/,
    'expired token');
($m, $link, $answer) = $c->registered($core);
is($answer->{status}, 200, 'then a fresh one');

# a token is not asked for again while its own is good

($m, $link, $answer) = $c->registered($core, token => undef);
is($answer->{status}, 200, 'the token of the flow');

# a second identity on one flow

my $d = ImsClient->new(ws => undef);
refusal($t, 'another IMPI on the flow', $c,
    $d->{ua}->register(), 403, 'register_other_impi', qr/Another Private/);

# another Contact on it

$c->send($c->{ua}->register(contact => '<sip:other@x.invalid>'));
is($c->answer()->{status}, 403, 'another Contact on the flow');

# a second REGISTER while the first is under way

$c->send($c->{ua}->register());
($m, $link) = $core->request();
refusal($t, 'REGISTER in flight', $c, $c->{ua}->register(), 500,
    'register_busy', qr/Another REGISTER Is In Flight/);
$core->reply($link, $m, 200, 'OK');
is($c->answer()->{status}, 200, 'the first is answered all the same');

# the lease ends under an idle registered flow

for my $how ('revoke lease', 'revoke user', 'release') {
    my $c = ImsClient->new();
    my ($m) = $c->registered($core);

    $how eq 'release'
        ? ims_identity(method => 'DELETE', user => $c->{user},
                       cookie => $c->{cookie},
                       query => "lease=$c->{id}{lease}")
        : $how eq 'revoke user'
        ? ims_poolctl($t, 'revoke', 'user', 'web', $c->{user},
                      '--realm', 'site')
        : ims_poolctl($t, 'revoke', 'lease', $c->{id}{lease});

    is(($c->{ws}->closed(1))[0], 1008, "$how: flow closed");
    gone($core, $m, $c, $how);
}

# a whole pool

my @fenced = map { ImsClient->new() } 1 .. 3;
$_->registered($core) for @fenced;
my $idle = ImsClient->new();

ims_poolctl($t, 'revoke', 'pool', 'web');

is(join(' ', map { ($_->{ws}->closed(3))[0] } @fenced), '1008 1008 1008',
    'pool revoked: its flows closed');

# $c is one of them, too

my @taken;
while (my ($m, $link) = $core->request(2)) {
    $core->reply($link, $m, 200, 'OK', contact => '');
    push @taken, contact($m);
}
is(join(' ', sort @taken),
    join(' ', sort map { $_->{ua}->contact() } $c, @fenced),
    'and de-registered');
refusal($t, 'pool revoked, then REGISTER', $idle, $idle->{ua}->register(), 403,
    'register_lease', qr/Lease Ended: \S/, 1008);

# spellings of what only the edge may say: one Authorization, ours, leaves

for my $case (@spellings) {
    my ($name, $lines, $status, $change) = @$case;

    my $c = ImsClient->new();
    my $text = $c->{ua}->register(authorization => '', extra => $lines->($c));
    $text = $change->($text) if $change;
    $c->send($text);

    if ($status == 200) {
        my ($m, $link) = $core->request();

        ok($m && $m->{text} !~ /marker/i, "$name: no marker");
        is($m && (join '|', sip_headers($m, 'Authorization')),
            authorization($c), "$name: one Authorization");
        $core->reply($link, $m, 200, 'OK') if $m;
        is($c->answer()->{status}, 200, "$name: registered");

    } else {
        my $answer = $c->answer(2);
        is($answer && $answer->{status}, $status, "$name: $status");
        ok($core->silent(0.1), "$name: nothing at the core");
        is(scalar(() = $t->read_file('error.log') =~ /marker/gi), 0,
            "$name: nothing of it in the log");
    }
}

# SIP that is none

for my $case (@malformed) {
    my ($name, $change, $status, $reason) = @$case;

    my $c = ImsClient->new();
    my $before = counters();

    $c->send($change->($c->{ua}->register()));

    my $answer = $c->answer(1);
    is($answer ? "$answer->{status} $answer->{reason}" : 'none',
        $status ? "$status $reason" : 'none', $name);
    ok($core->silent(0.1) && $c->alive()
        && counters()->{sip_bad} == $before->{sip_bad} + 1,
        "$name: nothing at the core, counted, the flow stays");
}

# frames that are none

for my $case (@frames) {
    my ($name, $send, $code, $counter) = @$case;

    my $c = ImsClient->new();
    my $before = counters();

    $send->($c);
    my ($got) = $c->{ws}->closed(5);
    is(join(' ', $got // 'open', counters()->{$counter}
                                 - $before->{$counter}, $core->silent(0.1)),
        "$code 1 1", $name);
}

# responses of a client to nothing: dropped, the third ends it

$c = ImsClient->new();
my $before = counters();

for (1 .. 2) {
    $c->send("SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP x;branch=z9hG4bKx\r\n"
             . "From: <sip:a\@b>;tag=1\r\nTo: <sip:a\@b>;tag=2\r\n"
             . "Call-ID: x\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n");
}
ok($c->alive(), 'two responses without a request');
$c->send("SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP x;branch=z9hG4bKx\r\n"
         . "From: <sip:a\@b>;tag=1\r\nTo: <sip:a\@b>;tag=2\r\n"
         . "Call-ID: x\r\nCSeq: 1 INVITE\r\n\r\n");
is(($c->{ws}->closed(3))[0], 1008, 'a third');
is(counters()->{response_from_client} - $before->{response_from_client}, 3,
    'counted');

# other requests before registration

$c = ImsClient->new();
refusal($t, 'INVITE before registration', $c,
    $c->{ua}->request('INVITE', to => 'sip:x@y'), 403, 'sip_not_registered',
    qr/INVITE answered 403: Register First/);

$c->send($c->{ua}->request('ACK', to => 'sip:x@y'));
ok($c->alive(), 'ACK is never answered');

# the core is down

$core->close($_) for $core->links();
$core->deaf();

$c = ImsClient->new();
$before = counters();
$c->send($c->{ua}->register());
$answer = $c->answer(6);
is($answer->{status}, 503, 'core down');
like(sip_header($answer, 'Retry-After') // '', qr/^\d+$/, 'Retry-After');
is(counters()->{core_down} - $before->{core_down}, 1, 'counted');
ok($c->alive(), 'the flow stays');

# the pool's database cannot be read

rename "$dir/pool", "$dir/pool.away";
ok(ims_wait_log($t, qr/pool ".*" cannot be read/), 'pool gone');
$before = counters();
$c->send($c->{ua}->register());
$answer = $c->answer();
is(join(' ', $answer->{status}, sip_header($answer, 'Retry-After') // '',
        counters()->{register_unknown} - $before->{register_unknown}),
    '503 5 1', 'nothing is known: 503');
rename "$dir/pool.away", "$dir/pool";

# never in clear

unlike($t->read_file('error.log') =~ s/.*\[debug\].*\n//gr,
    qr/\Q$c->{id}{token}\E/, 'no token in the log');

###############################################################################

# [name, sub: token, status, counter, log]

sub tokens {
    my @bad = (403, 'register_token_bad', qr/bad token in REGISTER: \S/);
    my @identity = (403, 'register_identity', qr/Identity Not Covered/);

    return (
        ['token: not a JWT', sub { 'abc' }, @bad],
        ['token: three empty parts', sub { '..' }, @bad],
        ['token: truncated', sub { substr $_[0]{id}{token}, 0, -5 }, @bad],
        ['token: huge', sub { $_[0]{id}{token} . 'A' x 5000 }, @bad],
        ['token: bad signature', sub {
            my ($head, $claims, $sig) = split /\./, $_[0]{id}{token};
            substr($sig, 10, 1) = substr($sig, 10, 1) eq 'A' ? 'B' : 'A';
            return join '.', $head, $claims, $sig;
        }, @bad],
        ['token: other key', sub {
            return ims_jwt({ alg => 'ES256', kid => 'k1' },
                ims_claims($_[0]{id}{token}), $foreign);
        }, @bad],
        ['token: alg none', sub {
            return ims_jwt({ alg => 'none' },
                ims_claims($_[0]{id}{token}), undef);
        }, @bad],
        ['token: HS256 with the public key', sub {
            return ims_jwt({ alg => 'HS256', kid => 'k1' },
                ims_claims($_[0]{id}{token}), "$dir/site.pub.pem");
        }, @bad],
        ['token: unknown kid', sub {
            return ims_jwt({ alg => 'ES256', kid => 'k2' },
                ims_claims($_[0]{id}{token}), $good);
        }, @bad],
        ['token: foreign issuer', sub {
            token($_[0], iss => 'https://evil.example')
        }, @bad],
        ['token: for another edge', sub {
            token($_[0], aud => 'other.example')
        }, @bad],
        ['token: without our scope', sub { token($_[0], scope => 'x') },
            @bad],
        ['token: of the scope by default', sub {
            token($_[0], scope => 'webrtc-ims-client-access-to-ims')
        }, @bad],
        ['token: not yet', sub { token($_[0], nbf => time() + 1000) }, @bad],
        ['token: IMPU with CRLF', sub {
            token($_[0], impu => $_[0]{id}{impu} . ">\r\nX: y")
        }, @bad],
        ['token: IMPI with a quote', sub {
            token($_[0], impi => 'a"b@ims.example')
        }, @bad],
        ['token: bound to another Origin', sub {
            token($_[0], origin => 'https://localhost:' . port(8443))
        }, 403, 'register_origin', qr/token is bound to another Origin/],
        ['token: issuer of another page', sub {
            return ims_jwt({ alg => 'ES256', kid => 'o1' },
                { %{ims_claims($_[0]{id}{token})},
                  iss => 'https://other.example' }, $foreign);
        }, 403, 'register_origin', qr/does not serve this Origin/],

        # signed well, and about somebody else

        ['token: IMPU of another', sub {
            token($_[0], impu => 'sip:web-000199@ims.example')
        }, @identity],
        ['token: IMPI of another', sub {
            token($_[0], impi => 'web-000199@ims.example')
        }, @identity],
        ['token: another lease', sub {
            token($_[0], lease => $_[0]{id}{lease} =~ s/.$/f/r)
        }, 403, 'register_lease', qr/Lease Ended: \S/],
        ['token: an identity that is not there', sub {
            token($_[0], lease => '00000001000fffff-0000010000000001')
        }, 403, 'register_lease', qr/Lease Ended: \S/],
        ['token: another session', sub { token($_[0], sid => '0' x 15 . 1) },
            403, 'register_lease', qr/Lease Ended: \S/],
        ['token: another holder', sub {
            token($_[0], sub => 'AAAAAAAAAAAAAAAAAAAAAA')
        }, 403, 'register_lease', qr/Lease Ended: \S/],

        ['token: expired', sub { token($_[0], exp => time() - 1000) },
            401, 'register_token_expired', qr/401: Token Expired/],
        ['token: expired and of another', sub {
            token($_[0], exp => time() - 1000,
                  impi => 'web-000199@ims.example')
        }, @identity],
    );
}


# [name, sub of the client and $t: message, status, counter, log, close code]

sub refused {
    my $other = 'sip:web-000199@ims.example';
    my @identity = (403, 'register_identity', qr/Identity Not Covered/, 1008);
    my @bad = (400, 'register_bad', qr/REGISTER answered 400/);

    return (
        ['IMPU not in the token', sub {
            $_[0]{ua}->register(aor => $other)
        }, @identity],
        ['IMPU in another case', sub {
            $_[0]{ua}->register(aor => $_[0]{id}{impu} =~ s/web/Web/r)
        }, @identity],
        ['IMPU over TLS only', sub {
            $_[0]{ua}->register(aor => $_[0]{id}{impu} =~ s/sip:/sips:/r)
        }, @identity],
        ['To of another', sub { $_[0]{ua}->register(to => $other) },
            403, 'register_bad', qr/403: Third-party REGISTER/],
        ['From of another', sub { $_[0]{ua}->register(from => $other) },
            403, 'register_bad', qr/403: Third-party REGISTER/],

        ['R-URI of another domain', sub {
            $_[0]{ua}->register(ruri => 'sip:evil.example')
        }, 403, 'register_identity', qr/Not The Home Domain/],
        ['R-URI with a user', sub {
            $_[0]{ua}->register(ruri => $_[0]{id}{impu})
        }, 403, 'register_identity', qr/Not The Home Domain/],
        ['R-URI that leads elsewhere', sub {
            $_[0]{ua}->register(ruri => 'sip:10.0.0.1;maddr=10.0.0.2')
        }, 403, 'register_identity', qr/Not The Home Domain/],

        ['no Contact', sub {
            $_[0]{ua}->register() =~ s/^Contact: .*\r\n//mr
        }, @bad],
        ['two Contacts', sub {
            $_[0]{ua}->register(extra => ['Contact: <sip:a@b>'])
        }, @bad],
        ['Contact * without Expires 0', sub {
            $_[0]{ua}->register(contact => '*')
        }, @bad],
        ['Contact * of nothing', sub {
            $_[0]{ua}->register(contact => '*', expires => 0)
        }, 403, 'register_identity', qr/Not Registered/],
        ['Expires: abc', sub { $_[0]{ua}->register(expires => 'abc') }, @bad],
        ['Expires over 32 bits', sub {
            $_[0]{ua}->register(expires => '4294967296')
        }, @bad],
        ['expires quoted', sub {
            $_[0]{ua}->register(contact => '<sip:a@b>;expires="60"')
        }, @bad],
        ['expires twice', sub {
            $_[0]{ua}->register(contact => '<sip:a@b>;expires=60;expires=6')
        }, @bad],
        ['Contact of 513 bytes', sub {
            $_[0]{ua}->register(contact => '<sip:' . 'x' x 507 . '@b>')
        }, @bad],
        ['two Bearers', sub {
            $_[0]{ua}->register(
                extra => ["Authorization: Bearer $_[0]{id}{token}"])
        }, @bad],
        ['no hops left', sub { $_[0]{ua}->register(max_forwards => 0) },
            483, 'sip_policy', qr/REGISTER answered 483/],
        ['two Vias', sub {
            $_[0]{ua}->register(
                extra => ['Via: SIP/2.0/TCP 10.0.0.1;branch=z9hG4bKx'])
        }, 400, 'sip_policy', qr/400: More than one Via/],
        ['branch without the cookie', sub {
            $_[0]{ua}->register(branch => 'abc')
        }, 400, 'sip_bad', qr/400: Branch Without Magic Cookie/],

        ['lease released', sub {
            ims_identity(method => 'DELETE', user => $_[0]{user},
                         cookie => $_[0]{cookie},
                         query => "lease=$_[0]{id}{lease}");
            return $_[0]{ua}->register();
        }, 403, 'register_lease', qr/Lease Ended: \S/, 1008],
        ['lease revoked', sub {
            ims_poolctl($_[1], 'revoke', 'lease', $_[0]{id}{lease});
            return $_[0]{ua}->register();
        }, 403, 'register_lease', qr/Lease Ended: \S/, 1008],
        ['lease revoked by IMPU', sub {
            ims_poolctl($_[1], 'revoke', 'impu', $_[0]{id}{impu});
            return $_[0]{ua}->register();
        }, 403, 'register_lease', qr/Lease Ended: \S/, 1008],
    );
}


# [name, sub: lines, status, sub: change of the text]. What has to be gone at
# the core has "marker" in it.

sub spellings {
    my $digest = 'Digest username="marker@x",realm="marker",'
        . 'integrity-protected="auth-done"';
    my $bearer = sub { 'Authorization: Bearer ' . $_[0]{id}{token} };
    my $with = sub {
        my @lines = @_;
        return sub { [$bearer->($_[0]), @lines] };
    };

    return (
        ['D10 Bearer, Digest', sub {
            [$bearer->($_[0]), "Authorization: $digest"]
        }, 200],
        ['D10 Digest, Bearer', sub {
            ["Authorization: $digest", $bearer->($_[0])]
        }, 200],
        ['D10 lower case', sub {
            ["authorization: $digest", $bearer->($_[0])]
        }, 200],
        ['D10 space before the colon', sub {
            ["Authorization : $digest", $bearer->($_[0])]
        }, 200],
        ['D10 folded', sub {
            ["Authorization:\r\n $digest", $bearer->($_[0])]
        }, 200],
        ['D10 Proxy-Authorization', $with->("Proxy-Authorization: $digest"),
            200],
        ['D10 another scheme', $with->('Authorization: Marker x'), 200],
        ['D10 Digest alone', sub { ["Authorization: $digest"] }, 401],
        ['D10 comma-joined', sub {
            [$bearer->($_[0]) . ", $digest"]
        }, 400],

        (map { my $name = $_; ["D11 $name", $with->("$name: marker"), 200] }
            'P-Asserted-Identity', 'p-asserted-identity',
            'P-Preferred-Identity', 'P-Asserted-Service',
            'P-Visited-Network-ID', 'P-Charging-Vector',
            'P-Charging-Function-Addresses', 'P-Access-Network-Info',
            'P-Served-User', 'P-Profile-Key', 'P-Private-Network-Indication',
            'P-User-Database', 'History-Info', 'Resource-Priority',
            'Feature-Caps', 'Cellular-Network-Info', 'Restoration-Info',
            'Relayed-Charge', 'Service-Interact-Info', 'Attestation-Info',
            'Origination-Id', 'Additional-Identity', 'Response-Source',
            'P-Associated-URI', 'Remote-Party-ID', 'Diversion'),
        ['D11 cpc of the Contact', $with->(), 200, sub {
            $_[0] =~ s/;transport=ws>/;cpc=marker;transport=ws>/r
        }],

        (map { my $name = $_;
               ["D12 $name", $with->("$name: <sip:marker;lr>"), 200] }
            'Route', 'Path', 'Service-Route', 'Record-Route'),

        ['D14 tab before the colon',
            $with->("P-Asserted-Identity\t: <sip:marker>"), 200],
        ['D14 control character before the colon',
            $with->("P-Asserted-Identity\x01: <sip:marker>"), 400],
        ['D14 vertical tab', $with->("P-Asserted-Identity\x0b: x"), 400],
        ['D14 no-break space',
            $with->("P-Asserted-Identity\xc2\xa0: x"), 400],
        ['D14 NUL', $with->("P-Asserted-Identity\0: <sip:marker>"), 400],
        ['D15 bare LF', $with->("X: y\nP-Asserted-Identity: <sip:marker>"),
            400],
        ['D15 bare CR', $with->("X: y\rP-Asserted-Identity: <sip:marker>"),
            400],
        ['D15 CR CR LF', $with->("X: y\r\r\nP-Asserted-Identity: x"), 400],
        ['D15 folded trust header',
            $with->("P-Asserted-Identity:\r\n <sip:marker>\r\n\t;x"), 200],
        ['D16 two Expires', $with->('Expires: 5'), 400],
        ['D16 two Max-Forwards', $with->('Max-Forwards: 5'), 400],
        ['D16 compact Content-Length', $with->('l: 0'), 400],
        ['D16 two Call-ID', $with->('i: other'), 400],
        ['D16 two CSeq', $with->('CSeq: 99 REGISTER'), 400],
        ['D16 two From', $with->('f: <sip:x@y>;tag=1'), 400],
        ['D16 two To', $with->('t: <sip:x@y>'), 400],
        ['D16 compact Contact', $with->('m: <sip:x@y>'), 400],
    );
}


# [name, sub: change, status, reason]; status 0: not answered

sub malformed {
    my $length = sub {
        my ($value, $body) = @_;
        return sub { $_[0] =~ s/Content-Length: 0/Content-Length: $value/r
                     . ($body // '') };
    };
    my @differs = (400, 'Content-Length does not match the body');
    my @number = (400, 'Malformed Content-Length header');

    return (
        ['no SIP at all', sub { 'hello' }, 0],
        ['HTTP', sub { "GET / HTTP/1.1\r\nHost: x\r\n\r\n" }, 0],
        ['no end of headers', sub { $_[0] =~ s/\r\n\r\n/\r\n/r }, 400,
            'Missing empty line'],
        ['another version', sub { $_[0] =~ s{SIP/2\.0}{SIP/3.0}r }, 505,
            'Version Not Supported'],
        ['no Call-ID', sub { $_[0] =~ s/^Call-ID: .*\r\n//mr }, 400,
            'Missing Call-ID header'],
        ['CSeq of another method', sub {
            $_[0] =~ s/(CSeq: \d+) \w+/$1 BYE/r
        }, 400, 'CSeq method does not match the request'],
        ['a bare LF', sub { $_[0] =~ s/(CSeq: .*)\r\n/$1\n/r }, 0],
        ['two messages in one', sub { $_[0] . $_[0] }, @differs],
        ['D17 length too large', $length->(5), @differs],
        ['D17 length too small', $length->(1, 'abc'), @differs],
        ['D17 +0', $length->('+0'), @number],
        ['D17 -1', $length->('-1'), @number],
        ['D17 0x0', $length->('0x0'), @number],
        ['D17 2^64', $length->('18446744073709551616'), @number],
        ['D17 two numbers', $length->('0 0'), @number],
    );
}


# [name, sub, close code, counter]

sub frames {
    return (
        ['oversize', sub { $_[0]->send('x' x 8193) }, 1009, 'ws_too_big'],
        ['oversize announced only', sub {
            $_[0]{ws}->write($_[0]{ws}->frame('', length => 1 << 40))
        }, 1009, 'ws_too_big'],
        ['oversize in fragments', sub {
            my $ws = $_[0]{ws};
            $ws->send('x' x 5000, fin => 0);
            $ws->send('x' x 5000, opcode => 0);
        }, 1009, 'ws_too_big'],
        ['unmasked', sub { $_[0]->send('x', mask => 0) }, 1002,
            'ws_protocol_error'],
        ['reserved bit', sub { $_[0]->send('x', rsv => 4) }, 1002,
            'ws_protocol_error'],
        ['unknown opcode', sub { $_[0]->send('x', opcode => 3) }, 1002,
            'ws_protocol_error'],
        ['long ping', sub { $_[0]->send('x' x 126, opcode => 9) }, 1002,
            'ws_protocol_error'],
        ['fragmented ping', sub { $_[0]->send('x', opcode => 9, fin => 0) },
            1002, 'ws_protocol_error'],
        ['continuation of nothing', sub { $_[0]->send('x', opcode => 0) },
            1002, 'ws_protocol_error'],
        ['bad UTF-8', sub { $_[0]->send("\xc0\xaf") }, 1007, 'ws_bad_utf8'],
        ['UTF-8 cut off', sub { $_[0]->send("x\xe2\x82") }, 1007,
            'ws_bad_utf8'],
    );
}


# one test: the answer, the counter, the log line, whether the WebSocket is
# closed or served, and that the core is left alone

sub refusal {
    my ($t, $name, $c, $text, $status, $counter, $log, $code) = @_;

    my $before = counters();
    my $lines = ims_count_log($t, $log);

    $c->send($text);

    my $answer = $c->answer();
    my $end = $code ? ($c->{ws}->closed(3))[0] // 'open'
                    : $c->alive() ? 'alive' : 'closed';

    is_deeply([
        $answer ? $answer->{status} : 0, $end,
        counters()->{$counter} - $before->{$counter},
        ims_count_log($t, $log) > $lines ? 'logged' : 'not logged',
        $core->silent(0.1) ? 'silent' : 'forwarded',
    ], [$status, $code // 'alive', 1, 'logged', 'silent'], $name);
}


# the edge takes a registration back: exact Contact, no instance

sub gone {
    my ($core, $m, $c, $name) = @_;

    my ($d, $link) = $core->request(5);

    is_deeply([$d && $d->{method}, contact($d), sip_header($d, 'Expires'),
               sip_header($d, 'Authorization'), sip_header($d, 'Path'),
               sip_header($d, 'Call-ID') ne sip_header($m, 'Call-ID')],
        ['REGISTER', $c->{ua}->contact(), 0, authorization($c),
         sip_header($m, 'Path'), 1], "$name: de-registered");

    $core->reply($link, $d, 200, 'OK', contact => '') if $d;
}


sub contact {
    my ($m) = @_;

    return $m && sip_header($m, 'Contact') =~ /^<([^>]+)>;expires=0$/
        ? $1 : 'none';
}


sub authorization {
    my ($c) = @_;

    return "Digest username=\"$c->{id}{impi}\",realm=\"$home\",nonce=\"\","
        . "uri=\"sip:$home\",response=\"\",integrity-protected=\"auth-done\"";
}


# the client's token with other claims, signed by the issuer's key

sub token {
    my ($c, %claims) = @_;

    return ims_jwt({ alg => 'ES256', kid => 'k1' },
                   { %{ims_claims($c->{id}{token})}, %claims }, $good);
}


sub counters { return ims_status()->{counters} }

###############################################################################
