#!/usr/bin/perl

# Tests for how long a registration may last, and for what becomes of it when
# the lease or the core does not keep to that: POOL.md 1, line E, b and d.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ time sleep /;

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(82);

# what the core does wrong is an alert; here they are counted below

$t->todo_alerts();

my %pools = (short => 10, long => 1800, brief => 72);
my $dir = $t->testdir();

ims_keys($t);
ims_pool($t, size => 60);

for my $pool (sort keys %pools) {
    ims_poolctl($t, 'pool', 'create', $pool, 'ims.example', '--ttl',
                $pools{$pool});
    ims_poolctl($t, 'import', $pool, '--range',
                "sip:$pool-[001-020]\@ims.example");
}

# the feed is read only when a message makes it necessary

$t->write_file_expand('nginx.conf', ims_conf($t, lease_check => '60s',
    grace => '300s',
    issuers => <<"    END",
        ims_issuer site {
            iss     https://localhost;
            aud     ims.example;
            alg     ES256;
            key     k1 $dir/site.pub.pem $dir/site.key.pem;
            pool    web short long brief;
            origin  http://localhost;
        }
    END
    http => <<"    END",
        upstream two {
            server  127.0.0.1:8061 max_fails=0;
            server  127.0.0.1:8062 max_fails=0;
        }
    END
    locations => join('', map { <<"    END" } sort keys %pools) . <<'    END'));
        location = /ims/$_ {
            ims_identity       $_ issuer=site;
            ims_identity_user  \$remote_user;
        }
    END
        location = /ims/two {
            ims_pass              two;
            ims_accept_issuer     site;
        }

        location = /ims/lapse {
            ims_pass              core;
            ims_accept_issuer     site;
            ims_register_timeout  3s;
        }
    END
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my ($c, $m, $link, $answer, $before);

# x = min(asked, room), into Expires and into the Contact

is(asked(client(), expires => 300), '300 300', 'less than the lease has');

my ($x, $y) = split ' ', asked(client(), expires => 3600);
ok($x >= 590 && $x <= 599, 'more than the lease has');
is($y, $x, 'the same in the Contact');

($x, $y) = split ' ', asked(client(), expires => '',
    contact => '<sip:a@b.invalid>');
ok($x >= 590 && $x <= 599, 'nothing said: 600 is asked for');
is($y, $x, 'and written into the Contact');

is(asked(client('long'), expires => '', contact => '<sip:a@b.invalid>'),
    '600 600', 'nothing said, and room enough');
is(asked(client(), expires => 100, contact => '<sip:a@b.invalid>;expires=50'),
    '50 50', "the Contact's counts");
is(asked(client(), expires => '', contact => '<sip:a@b.invalid>;expires=50'),
    '50 50', 'the Contact alone');
is(asked(client('long'), expires => 4294967295) =~ /^(17\d\d) \1$/, 1,
    'the largest number');
is(asked(client(), expires => 10), '10 10', 'less than the core may like');

# a lease that has 10 s left

$c = client('short');
$before = counters();
$c->send($c->{ua}->register(expires => 600));
$answer = $c->answer();
is($answer->{status}, 401, 'too little of the lease is left');
like(sip_header($answer, 'WWW-Authenticate'), qr/error="invalid_token"/,
    'asks for a fresh token');
$c->send($c->{ua}->register(expires => '',
                            contact => '<sip:a@b.invalid>'));
is($c->answer()->{status}, 401, 'REGISTER without Expires');
$c->send($c->{ua}->register(expires => 5));
is($c->answer()->{status}, 401, 'even if less is asked for');
ok($core->silent(0.2), 'nothing at the core');
is(counters()->{register_short} - $before->{register_short}, 3, 'counted');
ok($c->alive(), 'the flow stays');

# time goes by, and a renewal gives it back

$c = client('brief');
my ($room) = split ' ', asked($c, expires => 600);
ok($room >= 65 && $room <= 70, 'room of a fresh lease');
sleep 1.1;
($x) = split ' ', asked($c, expires => 600);
ok($x < $room && $x >= 60, 'less after a while');
sleep 11;
$c->send($c->{ua}->register());
is($c->answer()->{status}, 401, 'too little');
$c->renew();
($x) = split ' ', asked($c, expires => 600);
ok($x >= 65 && $x <= 70, 'renewed: as much as before');

# what the client is told

$c = client();
is(told($c, 300, 300), 300, 'as granted');
is(told($c, 300, 100), 100, 'less granted');
is(told($c, 300, 0), 0, 'nothing granted');
is(told($c, 30, 60), 60, 'raised to the least that the core grants');
is(counters()->{register_granted_more}, 0, 'no fault so far');

# granted more than asked: an alert, a report, and the truth for the client

my $rest = rest($t, $c);
$x = told($c, 100, 3600);
ok($x >= 580 && $x <= 599, 'granted beyond the lease: told its end');
is(counters()->{register_granted_more}, 1, 'counted');
ok(ims_wait_log($t, qr/\[alert\] .*granted 3600 s where 100 were/), 'alert');
ok(ims_wait(3, sub { rest($t, $c) > $rest + 2500_000 }), 'rests for longer');

is(told($c, 100, 200), 200, 'granted within the lease');
is(counters()->{register_granted_more}, 2, 'is a fault, too');

# answers that cannot be used: the client hears of it, nothing is bound

for (
    ['a Contact without expires', contact => sub {
        $_[0]{ua}->contact() =~ s/(.*)/<$1>/r
    }],
    ['a bad expires', contact => sub {
        '<' . $_[0]{ua}->contact() . '>;expires=never'
    }],
    ['a Service-Route that is none', extra => ['Service-Route: x y']],
) {
    my ($name, %reply) = @$_;

    my $c = client();
    $reply{contact} = $reply{contact}->($c) if $reply{contact};
    $c->send($c->{ua}->register());
    my ($m, $link) = $core->request();
    $core->reply($link, $m, 200, 'OK', %reply);
    is($c->answer()->{status}, 500, $name);
}

# 423: passed on while the lease has that much

$c = client();
$c->send($c->{ua}->register(expires => 50));
($m, $link) = $core->request();
$core->reply($link, $m, 423, 'Interval Too Brief',
             extra => ['Min-Expires: 300']);
$answer = $c->answer();
is(join(' ', $answer->{status}, sip_header($answer, 'Min-Expires')),
    '423 300', '423 that fits the lease');
is(asked($c, expires => 300), '300 300', 'then as much as it wants');

$c->send($c->{ua}->register(expires => 50));
($m, $link) = $core->request();
$core->reply($link, $m, 423, 'Interval Too Brief');
$answer = $c->answer();
is($answer->{status}, 401, '423 without Min-Expires');

# the second look: revoked between the REGISTER and its 200

$c = client();
$c->send($c->{ua}->register());
($m, $link) = $core->request();
ims_poolctl($t, 'revoke', 'lease', $c->{id}{lease});
$before = counters();
$core->reply($link, $m, 200, 'OK');
is($c->answer()->{status}, 403, 'revoked before the 200: 403');
is(($c->{ws}->closed(3))[0], 1008, 'and closed');
is(counters()->{register_second_look} - $before->{register_second_look}, 1,
    'counted');
taken_back($c, 'revoked before the 200');

# the same when it was seen before the 200 came

$c = client();
$c->send($c->{ua}->register());
($m, $link) = $core->request();
ims_poolctl($t, 'revoke', 'lease', $c->{id}{lease});
my $other = client();
$other->send($other->{ua}->register());
is(($c->{ws}->closed(3))[0], 1008, 'revoked, seen before the 200: closed');
answer_all($core->request());
$core->reply($link, $m, 200, 'OK');
taken_back($c, 'revoked, seen before the 200');

# an answer to another request is the holder's, too

for my $case (['MESSAGE', 200, 'OK'], ['INVITE', 180, 'Ringing']) {
    my ($method, $status, $reason) = @$case;

    $c = client();
    $c->registered($core);
    $c->send($c->{ua}->request($method, to => 'sip:bob@ims.example'));
    ($m, $link) = $core->request();
    is($c->answer()->{status}, 100, 'INVITE under way')
        if $method eq 'INVITE';

    ims_poolctl($t, 'revoke', 'lease', $c->{id}{lease});
    $core->reply($link, $m, $status, $reason);

    is($c->answer(1), undef, "revoked before the $status of $method: dropped");
    is(($c->{ws}->closed(3))[0], 1008, 'and closed');

    if ($method eq 'INVITE') {
        ($m, $link) = $core->request();
        is($m->{method}, 'CANCEL', 'and cancelled');
        $core->reply($link, $m, 200, 'OK');
    }

    taken_back($c, "revoked before the $status of $method");
}

# what a broken link leaves undone is not done for a former holder

$c = client();
$c->registered($core);
$c->send($c->{ua}->request('MESSAGE', to => 'sip:bob@ims.example'));
($m, $link) = $core->request();
ims_poolctl($t, 'revoke', 'lease', $c->{id}{lease});
$core->close($link);

is(($c->{ws}->closed(3))[0], 1008, 'revoked before the link broke: closed');
taken_back($c, 'not sent again, but');

# an identity of somebody else in the answer

for (
    ['of another', '<sip:web-000060@ims.example>'],
    ['of another, behind its own', '%OWN%, <sip:web-000060@ims.example>'],
    ['in another spelling', '<SIP:WEB-000060@IMS.EXAMPLE:5060>'],
    ['as sips', '<sips:web-000060@ims.example;user=phone>'],
) {
    my ($name, $uris) = @$_;
    my $c = client();

    $uris =~ s/%OWN%/<$c->{id}{impu}>/;

    $c->send($c->{ua}->register());
    my ($m, $link) = $core->request();
    $core->reply($link, $m, 200, 'OK', extra => ["P-Associated-URI: $uris"]);
    is(join(' ', $c->answer()->{status}, ($c->{ws}->closed(3))[0]),
        '403 1008', "P-Associated-URI $name");
    taken_back($c, "P-Associated-URI $name");
}
is(counters()->{register_foreign_uri}, 4, 'counted');

# one that nobody has is the core's matter

$c = client();
$c->send($c->{ua}->register());
($m, $link) = $core->request();
$core->reply($link, $m, 200, 'OK', extra => [
    "P-Associated-URI: <$c->{id}{impu}>, <tel:+15550199>"]);
is($c->answer()->{status}, 200, 'P-Associated-URI that nobody has');

# a registration that is not refreshed is over

$c = client('web', '/ims/lapse');
my $start = time();
is(told($c, 300, 5), 5, 'registered for 5 s');
sleep 1.2;
$c->send($c->{ua}->request('OPTIONS'));
answer_all($core->request());
is(($c->answer() // {})->{status}, 200, 'registered');
sleep 6 - (time() - $start < 6 ? time() - $start : 6);
$c->send($c->{ua}->request('OPTIONS'));
is(($c->answer() // {})->{status}, 403, 'registered no more');
is(($c->{ws}->closed(5))[0], 1008, 'closed like one that never was');

# a peer that says 503, and no lease any more when the next one is to be tried

my @two = map { ImsCore->new(port($_)) } 8061, 8062;

$c = client('web', '/ims/two');
$c->send($c->{ua}->register());
($m, $link) = either(@two);
$core->reply($link, $m, 503, 'Overloaded');
my ($n, $next) = either(@two);
isnt(branch($n), branch($m), 'another peer, another branch');
isnt($next->sockport(), $link->sockport(), 'at the other one');
is(sip_header($n, 'Path'), sip_header($m, 'Path'), 'the same Path');
$core->reply($next, $n, 503, 'Overloaded, too');
$answer = $c->answer();
is($answer->{status}, 500, 'both overloaded: 500');
ok(sip_header($answer, 'Retry-After'), 'when to come again');

$c->send($c->{ua}->register());
($m, $link) = either(@two);
ims_poolctl($t, 'revoke', 'lease', $c->{id}{lease});
$core->reply($link, $m, 503, 'Overloaded');
$answer = $c->answer();
is($answer && $answer->{status}, 500, 'revoked meanwhile: still an answer');
is(($c->{ws}->closed(3))[0], 1008, 'and closed');

# what may be bound is taken back, whenever that is
my @late = grep { $_ && sip_header($_, 'Contact') !~ /;expires=0$/ }
    map { ($_->request(0.3))[0] } @two;
is(scalar @late, 0, 'no REGISTER to the next peer');

# 423 that the lease cannot meet: no loop of the client, a fresh lease; and
# nobody else is sent there in vain

$c = client();
$c->send($c->{ua}->register());
($m, $link) = $core->request();
$core->reply($link, $m, 423, 'Interval Too Brief',
             extra => ['Min-Expires: 1200']);
$answer = $c->answer();
is($answer->{status}, 401, '423 beyond the lease');
like(sip_header($answer, 'WWW-Authenticate'), qr/error="invalid_token"/,
    'asks for a fresh token');
$c->send($c->{ua}->register());
is($c->answer()->{status}, 401, 'known from then on');
ok($core->silent(0.2), 'nothing at the core');
is(asked(client('long'), expires => 1500), '1500 1500', 'a longer lease');

is(ims_count_log($t, qr/\[alert\]/), 2 + 4, 'alerts are those wanted');

###############################################################################

# a user with an identity of that pool, and a WebSocket to that place

sub client {
    my ($pool, $uri) = @_;

    $pool //= 'web';

    return ImsClient->new(
        identity => $pool eq 'web' ? '/ims/identity' : "/ims/$pool",
        ws => { $uri ? (uri => $uri) : () });
}


# registers; "Expires, expires of the Contact" as the core got them

sub asked {
    my ($c, %over) = @_;

    my ($m) = $c->registered($core, %over);

    return join ' ', sip_header($m, 'Expires'),
        sip_header($m, 'Contact') =~ /;expires=(\d+)/;
}


# asks for so much, is granted so much: what the client is told

sub told {
    my ($c, $asked, $granted) = @_;

    $c->send($c->{ua}->register(expires => $asked));
    my ($m, $link) = $core->request();
    $core->reply($link, $m, 200, 'OK',
        contact => sip_header($m, 'Contact')
                   =~ s/;expires=\d+/;expires=$granted/r);

    my $answer = $c->answer();

    return sip_header($answer, 'Contact') =~ /;expires=(\d+)/ ? $1 : undef;
}


# until when an identity rests, in ms of pool time

sub rest {
    my ($t, $c) = @_;

    my (undef, $json) = ims_poolctl($t, 'show', $c->{id}{lease}, '--json');

    return $json->{rest};
}


# the edge's own de-REGISTER for a client

sub taken_back {
    my ($c, $name) = @_;

    my ($m, $link) = $core->request(5);
    my $contact = $m ? sip_header($m, 'Contact') : '';

    is($contact, '<' . $c->{ua}->contact() . '>;expires=0',
        "$name: taken back");
    $core->reply($link, $m, 200, 'OK', contact => '') if $m;
}


sub answer_all {
    my ($m, $link) = @_;

    $core->reply($link, $m, 200, 'OK') if $m;
}


sub branch {
    my ($m) = @_;

    return $m && sip_header($m, 'Via') =~ /;branch=([^;]+)/ ? $1 : undef;
}


# the next message at one of several cores

sub either {
    my (@cores) = @_;

    for (1 .. 50) {
        for my $core (@cores) {
            my @got = $core->request(0.05);
            return @got if @got;
        }
    }

    return ();
}


sub counters { return ims_status()->{counters} }

###############################################################################
