package ImsCall;

# Dialogs for tests, seen from both ends: a client (ImsClient) and a core that
# does what it is told (ImsCore), one node of which stays in the route.
#
#   my $path = ImsCall::registered($c, $core);       # with Service-Route
#   my $d = ImsCall->calls($c, $core);               # the client calls
#   my $d = ImsCall->called($c, $core, $link);       # it is called
#   $c->send($d->from_client('BYE'));
#   $core->send($link, $d->from_core('BYE'));
#
#   ImsCall::core_request($c, 'MESSAGE', %o)         # text of an initial one

use strict;
use warnings;

use ImsSip;
use Test::Nginx ();

my $count = 0;


# Registers, with a Service-Route to this core; the URI of the Path is kept in
# $c->{path}.

sub registered {
    my ($c, $core, %o) = @_;

    $c->send($c->{ua}->register(%o));

    my ($m, $link) = $core->request()
        or die "REGISTER did not reach the core\n";

    $core->reply($link, $m, 200, 'OK', extra => [
        'Service-Route: ' . service_route(),
        'P-Associated-URI: ' . ($o{associated} // "<$c->{id}{impu}>") ]);

    my $answer = $c->status_answer();
    die "not registered: " . ($answer ? $answer->{status} : 'silence') . "\n"
        unless $answer && $answer->{status} == 200;

    ($c->{path}) = sip_header($m, 'Path') =~ /<(sip:[^>]+)>/;

    return $c->{path};
}


our $HOST = '127.0.0.1';        # of the core, as it stands in URIs

sub service_route { return "<sip:orig\@$HOST:" . _port() . ';lr>' }


# the route of the core's node that stays in the dialog

sub far_route { return "<sip:scscf\@$HOST:" . _port() . ';lr>' }


sub _port { return Test::Nginx::port(8060) }


# values of all lines of a header

sub values_of {
    my ($m, $name) = @_;

    return split /\s*,\s*/, join ',', sip_headers($m, $name);
}


# A request as it comes from the core. %o: ruri, via (values), branch, route
# (value; '': none), rr (values), from, to, from_tag, to_tag, call_id, cseq,
# max_forwards, extra (lines), type, body

sub core_request {
    my ($c, $method, %o) = @_;

    my $branch = $o{branch} // 'z9hG4bKcore' . ++$count;
    my $body = $o{body} // '';
    my $from = $o{from} // 'sip:bob@ims.example';
    my $to = $o{to} // $c->{id}{impu};
    my $route = $o{route} // "<$c->{path}>";

    my @via = @{$o{via} // [
        "SIP/2.0/TCP $HOST:" . _port() . ";branch=$branch",
        'SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKfar' ]};

    return join "\r\n", "$method " . ($o{ruri} // $c->{ua}->contact())
            . ' SIP/2.0',
        (map { "Via: $_" } @via),
        'Max-Forwards: ' . ($o{max_forwards} // 60),
        ($route ne '' ? "Route: $route" : ()),
        (map { "Record-Route: $_" } @{$o{rr} // []}),
        "From: <$from>;tag=" . ($o{from_tag} // 'far' . $count),
        "To: <$to>" . (defined $o{to_tag} ? ";tag=$o{to_tag}" : ''),
        'Call-ID: ' . ($o{call_id} // "core-$$-" . ++$count),
        'CSeq: ' . ($o{cseq} // 1) . ' ' . ($o{cseq_method} // $method),
        @{$o{extra} // ['P-Asserted-Identity: <sip:bob@ims.example>']},
        (length $body ? 'Content-Type: ' . ($o{type} // 'text/plain') : ()),
        'Content-Length: ' . length $body, '', $body;
}


# The client calls. %o: until ("invite", "ringing", "answered": the default),
# far_tag, extra (lines of the INVITE). What was seen: invite (at the core),
# link, ringing, answer (at the client).

sub calls {
    my ($class, $c, $core, %o) = @_;

    my $n = ++$count;
    my $self = bless {
        c => $c, core => $core, side => 'orig', call_id => "call-$$-$n",
        wic_tag => "wic$n", far_tag => $o{far_tag} // "far$n",
        cseq => 1, far_cseq => 1, far_uri => 'sip:bob@192.0.2.1',
    }, $class;

    $self->{sent} = $c->{ua}->request('INVITE', to => 'sip:bob@ims.example',
        from_tag => $self->{wic_tag}, call_id => $self->{call_id}, cseq => 1,
        type => 'application/sdp', body => "v=0\r\n",
        extra => [ 'Contact: <' . $c->{ua}->contact() . ';ob>',
                   @{$o{extra} // []} ]);
    $c->send($self->{sent});

    ($self->{invite}, $self->{link}) = $core->request()
        or die "INVITE did not reach the core\n";

    $self->{trying} = $c->answer();
    $self->{core_route} = sip_header($self->{invite}, 'Record-Route');

    my $until = $o{until} // 'answered';
    return $self if $until eq 'invite';

    $self->{ringing} = $self->far_reply(180, 'Ringing');
    return $self if $until eq 'ringing';

    $self->{answer} = $self->far_reply(200, 'OK');

    return $self;
}


# the far end answers the INVITE; what the client sees of it

sub far_reply {
    my ($self, $status, $reason, %o) = @_;

    my $tag = $o{to_tag} // $self->{far_tag};

    $self->{core}->send($self->{link}, sip_reply($self->{invite}, $status,
        $reason, to_tag => $tag, extra => [
            'Record-Route: ' . far_route() . ", $self->{core_route}",
            "Contact: <$self->{far_uri}>", @{$o{extra} // []} ]));

    my $answer = $self->{c}->answer();
    my @routes = reverse values_of($answer, 'Record-Route');

    $self->{routes_of}{$tag} = \@routes;
    $self->{routes} = \@routes if $tag eq $self->{far_tag};

    return $answer;
}


# The client is called. %o: until ("invite", "ringing", "answered"), extra.
# What was seen: invite (at the client), ringing, answer (at the core).

sub called {
    my ($class, $c, $core, $link, %o) = @_;

    my $n = ++$count;
    my $self = bless {
        c => $c, core => $core, side => 'term', call_id => "call-$$-$n",
        wic_tag => "wic$n", far_tag => "far$n", link => $link,
        cseq => 1, far_cseq => 1, branch => "z9hG4bKinv$n",
        far_uri => 'sip:bob@192.0.2.1',
    }, $class;

    $core->send($link, core_request($c, 'INVITE', branch => $self->{branch},
        call_id => $self->{call_id}, from_tag => $self->{far_tag},
        rr => [far_route()], type => 'application/sdp', body => "v=0\r\n",
        extra => [ "Contact: <$self->{far_uri}>", @{$o{extra} // []} ]));

    $self->{trying} = $core->request();
    $self->{invite} = $c->answer()
        or die "INVITE did not reach the client\n";

    my @rr = values_of($self->{invite}, 'Record-Route');
    $self->{routes} = \@rr;
    $self->{core_route} = $rr[0];

    my $until = $o{until} // 'answered';
    return $self if $until eq 'invite';

    $self->{ringing} = $self->reply(180, 'Ringing');
    return $self if $until eq 'ringing';

    $self->{answer} = $self->reply(200, 'OK');

    return $self;
}


# the client answers the INVITE; what the core sees of it

sub reply {
    my ($self, $status, $reason, %o) = @_;

    $self->{c}->send($self->reply_text($status, $reason, %o));

    my ($m) = $self->{core}->request($o{seconds});

    return $m;
}


sub reply_text {
    my ($self, $status, $reason, %o) = @_;

    return sip_reply($self->{invite}, $status, $reason,
        to_tag => $o{to_tag} // $self->{wic_tag}, body => $o{body},
        contact => '<' . $self->{c}{ua}->contact() . ';ob>', extra => [
            'Record-Route: ' . join(', ', @{$o{rr} // $self->{routes}}),
            @{$o{extra} // []} ]);
}


# a request within the dialog, as the client writes it

sub from_client {
    my ($self, $method, %o) = @_;

    my $tag = $o{to_tag} // $self->{far_tag};
    my $routes = $o{routes} // $self->{routes_of}{$tag} // $self->{routes};

    return $self->{c}{ua}->request($method, ruri => $self->{far_uri},
        to => 'sip:bob@ims.example', from_tag => $self->{wic_tag},
        to_tag => $tag, call_id => $self->{call_id},
        cseq => $o{cseq} // ++$self->{cseq}, %o,
        extra => [ (map { "Route: $_" } @$routes), @{$o{extra} // []} ]);
}


# one that the far end sends

sub from_core {
    my ($self, $method, %o) = @_;

    return core_request($self->{c}, $method, route => $self->{core_route},
        from_tag => $self->{far_tag}, to_tag => $self->{wic_tag},
        call_id => $self->{call_id}, cseq => $o{cseq} // ++$self->{far_cseq},
        extra => [], %o);
}


1;
